#include "experiments/report/page.h"

#include <fmt/format.h>

#include "experiments/report/style.h"
#include "experiments/report/svg.h"

namespace eep {
namespace {

std::string last_part(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return path;
  const size_t slash = path.rfind('/', end);
  return path.substr(slash == std::string::npos ? 0 : slash + 1,
                     end - (slash == std::string::npos ? 0 : slash + 1) + 1);
}

std::string tile(const std::string& value, const std::string& words) {
  return fmt::format("<div><b>{}</b><span>{}</span></div>\n", escape_markup(value), escape_markup(words));
}

std::string notes_block(const std::vector<std::string>& notes) {
  if (notes.empty()) return "";
  std::string html = "<div class=\"notes\" role=\"note\">\n";
  for (const std::string& note : notes) html += "<p>" + escape_markup(note) + "</p>\n";
  return html + "</div>\n";
}

// The figures that people ask for first: size, recovery, scores.
std::string tiles(const RunRecord& run) {
  const MethodNumbers* const full = run.full();
  const MethodNumbers* const last = run.final_method();
  std::string html = "<div class=\"figures\">\n";
  if (full == nullptr || last == nullptr) {
    const size_t done = run.archive.size();
    html += tile(run.planned > 0 ? fmt::format("{} of {}", done, run.planned) : std::to_string(done),
                 "evaluations so far");
    if (!run.generations.empty() && run.generations.back().best)
      html += tile(run.fitness_is_loglik ? fmt::format("{:.4g}", *run.generations.back().best)
                                         : percent_text(*run.generations.back().best),
                   "best fitness so far");
    return html + "</div>\n";
  }
  html += tile(fmt::format("{} of {}", last->experts, full->experts), "experts a layer stay");
  html += tile(gib_text(last->bytes), "after; before " + gib_text(full->bytes));
  if (last->test && full->test) {
    const std::optional<Interval>& interval = last->test->recovery_interval;
    if (last->test->recovery)
      html += tile(percent_text(*last->test->recovery),
                   "recovery" + (interval ? fmt::format(", 95% {:.1f} to {:.1f}", 100 * interval->low,
                                                        100 * interval->high)
                                          : std::string()));
    html += tile(percent_text(last->test->score),
                 fmt::format("test {}; full model {}", run.metric, percent_text(full->test->score)));
    if (last->test->p_vs_full)
      html += tile(fmt::format("{:.2g}", *last->test->p_vs_full), "p against the full model");
  }
  return html + "</div>\n";
}

std::string facts(const RunRecord& run) {
  std::string html = "<dl>\n";
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) html += fmt::format("<dt>{}</dt><dd>{}</dd>\n", name, escape_markup(value));
  };
  add("model", last_part(run.fact("model", "path")));
  add("model hash", run.fact("model", "hash"));
  add("task", run.task + (run.protocol.empty() ? "" : ", protocol " + run.protocol) +
                  (run.metric.empty() ? "" : ", metric " + run.metric));
  for (const char* split : {"train", "dev", "test"}) {
    if (!run.fact("data", split).empty())
      add((std::string(split) + " items").c_str(), run.fact("data", split));
  }
  add("final plan", run.final_method() == nullptr ? "" : run.final_method()->name);
  add("merge algorithm", run.algorithm);
  add("seed", run.seed);
  add("started", run.fact("", "started"));
  std::string where = run.device.empty() ? run.fact("", "device") : run.device;
  if (!run.fact("", "cpu").empty()) where += (where.empty() ? "" : ", ") + run.fact("", "cpu");
  if (!run.fact("", "gpu").empty()) where += ", " + run.fact("", "gpu");
  if (!run.weights.empty()) where += ", weights " + run.weights;
  add("device", where);
  add("program", run.fact("", "version").empty() ? "" : "eep " + run.fact("", "version"));
  html += "</dl>\n";
  if (!run.fact("", "command").empty()) html += "<pre>" + escape_markup(run.fact("", "command")) + "</pre>\n";
  return html;
}

std::string figure_html(const Figure& figure, const std::string& id) {
  return fmt::format(
      "<figure id=\"{}\">\n<h3>{}</h3>\n<figcaption>{} <a href=\"figures/{}.csv\">CSV</a></figcaption>\n"
      "<div class=\"chart\">{}</div>\n</figure>\n",
      id, escape_markup(figure.title), figure.words, figure.file, figure.body);
}

std::string contents(const std::vector<Figure>& figures, const std::string& prefix) {
  std::string html = "<nav aria-label=\"figures\">";
  for (const Figure& figure : figures)
    html += fmt::format("<a href=\"#{}{}\">{}</a> ", prefix, figure.file, escape_markup(figure.title));
  return html + "</nav>\n";
}

}  // namespace

std::string report_page(const std::vector<PageRun>& runs, const std::vector<Figure>& compared) {
  const RunRecord& first = *runs[0].run;
  const bool several = runs.size() > 1;
  const std::string title = several ? fmt::format("{} runs", runs.size()) : first.label;
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\"/>\n"
      "<meta name=\"generator\" content=\"eep report\"/>\n<title>{} \u2013 eep "
      "report</title>\n<style>{}</style>\n"
      "</head>\n<body>\n<main>\n<h1>{}</h1>\n",
      escape_markup(title), kReportStyle, escape_markup(title));
  if (several) {
    size_t finished = 0;
    for (const PageRun& page : runs) finished += page.run->finished ? 1 : 0;
    html += fmt::format("<p class=\"lead\">{} of {} runs have finished.</p>\n", finished, runs.size());
  }
  if (!several) {
    html += notes_block(first.notes) + tiles(first) + facts(first);
    std::vector<Figure> all = compared;
    all.insert(all.end(), runs[0].figures.begin(), runs[0].figures.end());
    html += contents(all, "f-");
    for (const Figure& figure : all) html += figure_html(figure, "f-" + figure.file);
  } else {
    html += contents(compared, "f-");
    for (const Figure& figure : compared) html += figure_html(figure, "f-" + figure.file);
    for (size_t i = 0; i < runs.size(); ++i) {
      const RunRecord& run = *runs[i].run;
      html += fmt::format("<section id=\"run{}\">\n<h2>{}</h2>\n", i, escape_markup(run.label));
      html += notes_block(run.notes) + tiles(run) + facts(run);
      if (runs[i].figures.empty()) {
        html += "<p>Its figures are in a report of its own: <code>eep report " + escape_markup(run.path) +
                "</code></p>\n</section>\n";
        continue;
      }
      const std::string prefix = fmt::format("r{}-", i);
      html += contents(runs[i].figures, prefix);
      for (const Figure& figure : runs[i].figures) html += figure_html(figure, prefix + figure.file);
      html += "</section>\n";
    }
  }
  return html + "</main>\n</body>\n</html>\n";
}

}  // namespace eep
