#include "experiments/report/published.h"

#include <fmt/format.h>

#include <algorithm>

#include "experiments/report/charts.h"
#include "experiments/report/json_fields.h"
#include "experiments/report/svg.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr int64_t kMostExperts = 1 << 20;

std::optional<Interval> interval_of(const JsonFields& fields) {
  if (!fields.has("ci95")) return std::nullopt;
  const Json& ends = fields.array("ci95");
  if (ends.size() != 2 || !ends[0].is_number() || !ends[1].is_number())
    fields.fail("ci95", "expected two numbers");
  return Interval{ends[0].get<double>(), ends[1].get<double>()};
}

std::optional<int64_t> experts_of(const JsonFields& fields) {
  return fields.has("experts") ? std::optional(fields.integer("experts", 1, kMostExperts)) : std::nullopt;
}

double fraction_of(const JsonFields& fields, const char* key) {
  const double score = fields.number(key);
  if (score < 0 || score > 1)
    fields.fail(key, fmt::format("expected a fraction in 0..1, got {} (percent are written as fractions)",
                                 fields.shown(key)));
  return score;
}

void add_result(const JsonFields& result, Published* published) {
  const std::string task = result.object("task").text("name");
  const Json& methods = result.array("methods");
  for (size_t i = 0; i < methods.size(); ++i) {
    const JsonFields method = result.element("methods", i);
    if (!method.has("test")) continue;
    const JsonFields test = method.object("test");
    published->rows.push_back(
        {task, method.text("name"), experts_of(method), fraction_of(test, "score"), interval_of(test)});
  }
}

// The first metric of each task, as the harness names them: "acc,none".
void add_harness(const JsonFields& root, Published* published) {
  const std::string model = root.has("model_name") ? root.text("model_name") : "harness";
  const JsonFields results = root.object("results");
  for (const auto& [task, values] : root.value("results").items()) {
    const JsonFields fields = results.object(task.c_str());
    for (const auto& [key, value] : values.items()) {
      const size_t comma = key.find(',');
      if (comma == std::string::npos || !value.is_number() || key.find("_stderr") < comma) continue;
      const double score = fraction_of(fields, key.c_str());
      PublishedRow row{task, fmt::format("{} ({})", model, key.substr(0, comma)), std::nullopt, score,
                       std::nullopt};
      const std::string error = key.substr(0, comma) + "_stderr" + key.substr(comma);
      if (values.contains(error) && values.at(error).is_number())
        row.interval = normal_interval(score, fields.number(error.c_str()));
      published->rows.push_back(std::move(row));
      break;
    }
  }
}

}  // namespace

Published read_published(const std::string& file) {
  const std::string text = read_file(file);
  const Json json = parse_json(text, file);
  const JsonFields root(json, file, text);
  Published published;
  published.source = file.substr(file.rfind('/') + 1);
  const std::string format = root.text_or("format", "");
  if (format == "eep-published") {
    published.source = root.text_or("source", published.source);
    const Json& rows = root.array("rows");
    for (size_t i = 0; i < rows.size(); ++i) {
      const JsonFields row = root.element("rows", i);
      published.rows.push_back({row.text("task"), row.text("method"), experts_of(row),
                                fraction_of(row, "score"), interval_of(row)});
    }
  } else if (format == "eep-result") {
    add_result(root, &published);
  } else if (format == "eep-summary") {
    const Json& runs = root.array("runs");
    for (size_t i = 0; i < runs.size(); ++i) add_result(root.element("runs", i).object("result"), &published);
  } else if (root.has("results")) {
    add_harness(root, &published);
  } else {
    throw Error(
        ExitCode::kData, file,
        "not scores to compare with (expected \"format\": \"eep-published\", eep-result or eep-summary, or "
        "the results of lm-evaluation-harness)");
  }
  if (published.rows.empty())
    throw Error(ExitCode::kData, file, "no scores are in it (expected at least one)");
  return published;
}

void add_published(std::span<const RunRecord> runs, const Published& published, const std::string& id,
                   std::vector<Figure>* figures) {
  Figure figure;
  figure.file = "against";
  figure.title = "Against " + published.source;
  figure.table.columns = {"task", "experts", "method", "source", "score", "low", "high"};
  RowChart chart;
  chart.text = {id + "-against", figure.title, "Scores of these runs beside scores from elsewhere."};
  chart.x_label = "score, %";
  chart.percent = true;
  chart.series = {"these runs", shorten(published.source, 26)};
  const auto add = [&](const std::string& task, const std::string& method, std::optional<int64_t> experts,
                       double score, const std::optional<Interval>& interval, bool own) {
    figure.table.add({task, experts ? std::to_string(*experts) : "", method, own ? "run" : published.source,
                      number_text(score), interval ? number_text(interval->low) : "",
                      interval ? number_text(interval->high) : ""});
    RowChart::Row row{task + ", " + method + (experts ? fmt::format(", {}", *experts) : ""), {{}, {}}};
    row.marks[own ? 0 : 1] = RowMark{
        score, interval, fmt::format("{}: {} ({})", row.name, percent_text(score), number_text(score))};
    chart.rows.push_back(std::move(row));
  };
  std::vector<std::string> tasks, unmatched;
  for (const RunRecord& run : runs) {
    if (std::find(tasks.begin(), tasks.end(), run.task) == tasks.end()) tasks.push_back(run.task);
  }
  for (const std::string& task : tasks) {
    std::vector<std::string> seen;
    for (const RunRecord& run : runs) {
      for (const MethodNumbers& method : run.methods) {
        if (run.task != task || !method.test) continue;
        const std::string name =
            runs.size() > 1 && method.name != "full" ? run.label + " " + method.name : method.name;
        if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
        seen.push_back(name);
        add(task, name, method.experts, method.test->score, method.test->interval, true);
      }
    }
    for (const PublishedRow& row : published.rows) {
      if (row.task == task) add(task, row.method, row.experts, row.score, row.interval, false);
    }
  }
  for (const PublishedRow& row : published.rows) {
    const bool known = std::find(tasks.begin(), tasks.end(), row.task) != tasks.end() ||
                       std::find(unmatched.begin(), unmatched.end(), row.task) != unmatched.end();
    if (!known) unmatched.push_back(row.task);
  }
  figure.words = "Scores of these runs beside those of " + escape_markup(published.source) +
                 ". Protocols, items and models may differ: look before you compare.";
  if (!unmatched.empty())
    figure.words += " Tasks of the file that no run has: " +
                    escape_markup(fmt::format("{}", fmt::join(unmatched, ", "))) + ".";
  figure.body = draw(chart);
  figures->push_back(std::move(figure));
}

}  // namespace eep
