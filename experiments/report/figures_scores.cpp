// Scores: splits, items, probes, and what the export was checked for.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "experiments/report/charts.h"
#include "experiments/report/figures.h"
#include "experiments/report/svg.h"

namespace eep {
namespace {

constexpr size_t kMostItems = 12;      // shown of those lost and of those won
constexpr size_t kMostItemText = 600;  // characters of a prompt
constexpr double kLoopBelow = 0.55;    // distinct-4 of a text that goes round in circles
constexpr size_t kProbeWords = 12;     // texts shorter than that say nothing of loops

// Items in both lists, by their number: the full model's line and the method's.
std::vector<std::pair<const SampleLine*, const SampleLine*>> paired(const MethodNumbers& full,
                                                                    const MethodNumbers& method) {
  std::vector<std::pair<const SampleLine*, const SampleLine*>> pairs;
  for (size_t i = 0; i < std::min(full.samples.size(), method.samples.size()); ++i) {
    if (full.samples[i].item == method.samples[i].item)
      pairs.emplace_back(&full.samples[i], &method.samples[i]);
  }
  return pairs;
}

// Different runs of four words over all of them; 1 for a text without any.
double distinct_4(const std::vector<std::string>& words) {
  std::set<std::string> different;
  size_t runs = 0;
  for (size_t i = 0; i + 4 <= words.size(); ++i, ++runs)
    different.insert(words[i] + " " + words[i + 1] + " " + words[i + 2] + " " + words[i + 3]);
  return runs == 0 ? 1 : static_cast<double>(different.size()) / static_cast<double>(runs);
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::string item_rows(const std::vector<std::pair<const SampleLine*, const SampleLine*>>& pairs) {
  std::vector<std::vector<std::string>> rows;
  for (const auto& [full, own] : pairs) {
    rows.push_back({std::to_string(own->item), shorten(own->prompt, kMostItemText), shorten(own->target, 120),
                    shorten(full->given, 200), shorten(own->given, 200),
                    fmt::format("{:.3g} \u2192 {:.3g}", full->score, own->score)});
  }
  return html_table({"item", "prompt", "right", "full model", "this plan", "score"}, rows, 5);
}

}  // namespace

void add_splits(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  if (!run.finished) return;
  Figure figure;
  figure.file = "scores";
  figure.title = "Scores on train, dev and test items";
  figure.words =
      "Bars are 95% intervals. Train far above test: fitted to the train items. The dashed line is the full "
      "model on the test items.";
  figure.table.columns = {"method", "experts", "split", "score", "low", "high", "n", "p_vs_full"};
  RowChart chart;
  chart.text = {id + "-scores", figure.title, ""};
  chart.x_label = run.metric.empty() ? "score, %" : run.metric + ", %";
  chart.percent = true;
  chart.series = {"train", "dev", "test"};
  for (const MethodNumbers& method : run.methods) {
    RowChart::Row row{method.name, {}};
    const std::pair<const char*, const std::optional<SplitNumbers>*> splits[] = {
        {"train", &method.train}, {"dev", &method.dev}, {"test", &method.test}};
    for (const auto& [split, numbers] : splits) {
      row.marks.emplace_back();
      if (!*numbers) continue;
      row.marks.back() =
          RowMark{(*numbers)->score, (*numbers)->interval, score_note(method.name + ", " + split, **numbers)};
      figure.table.add({method.name, std::to_string(method.experts), split, number_text((*numbers)->score),
                        (*numbers)->interval ? number_text((*numbers)->interval->low) : "",
                        (*numbers)->interval ? number_text((*numbers)->interval->high) : "",
                        std::to_string((*numbers)->n), number_text((*numbers)->p_vs_full)});
    }
    chart.rows.push_back(std::move(row));
  }
  if (run.full() != nullptr && run.full()->test) chart.reference = run.full()->test->score;
  chart.text.description = fmt::format("{} methods with their scores on each split.", run.methods.size());
  figure.body = draw(chart);
  figures->push_back(std::move(figure));
}

void add_items(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  const MethodNumbers* const full = run.full();
  const MethodNumbers* const last = run.final_method();
  if (full == nullptr || last == nullptr || last == full || full->samples.empty() || last->samples.empty())
    return;
  Figure figure;
  figure.file = "items";
  figure.title = "Items won and lost against the full model";
  figure.table.columns = {"method", "item", "full_score", "score", "change"};
  BarChart chart;
  chart.text = {id + "-items", figure.title, ""};
  chart.x_label = "test items";
  chart.series = {"as good", "won", "lost"};
  chart.colours = {5, 2, 3};  // pale blue, green, vermilion
  for (const MethodNumbers& method : run.methods) {
    if (&method == full || method.samples.empty()) continue;
    std::vector<double> counts(3, 0.0);
    for (const auto& [before, after] : paired(*full, method)) {
      const double change = after->score - before->score;
      counts[change > 0 ? 1 : change < 0 ? 2 : 0] += 1;
      figure.table.add({method.name, std::to_string(after->item), number_text(before->score),
                        number_text(after->score), number_text(change)});
    }
    BarChart::Row row{method.name, counts, {}, fmt::format("+{:.0f} \u2212{:.0f}", counts[1], counts[2])};
    for (size_t i = 0; i < 3; ++i)
      row.notes.push_back(fmt::format("{}: {} {:.0f} items", method.name, chart.series[i], counts[i]));
    chart.rows.push_back(std::move(row));
  }
  chart.text.description = fmt::format(
      "For {} methods: test items on which they score more than the full model, and "
      "less.",
      chart.rows.size());
  figure.words = "Test items on which a method scores more (won) or less (lost) than the full model.";
  figure.body = draw(chart);

  auto pairs = paired(*full, *last);
  const auto change = [](const auto& pair) { return pair.second->score - pair.first->score; };
  std::stable_sort(pairs.begin(), pairs.end(),
                   [&](const auto& a, const auto& b) { return change(a) < change(b); });
  std::vector<std::pair<const SampleLine*, const SampleLine*>> lost, won;
  for (const auto& pair : pairs) {
    if (change(pair) < 0 && lost.size() < kMostItems) lost.push_back(pair);
    if (change(pair) > 0) won.push_back(pair);
  }
  std::reverse(won.begin(), won.end());
  if (won.size() > kMostItems) won.resize(kMostItems);
  if (!lost.empty())
    figure.body += fmt::format("<details open><summary>Lost by {}, worst first</summary>{}</details>\n",
                               escape_markup(last->name), item_rows(lost));
  if (!won.empty())
    figure.body += fmt::format("<details><summary>Won by {}</summary>{}</details>\n",
                               escape_markup(last->name), item_rows(won));
  figures->push_back(std::move(figure));
}

void add_probes(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  Figure figure;
  figure.file = "probes";
  figure.title = "Do the texts loop?";
  figure.words = fmt::format(
      "Of generated test answers with at least {} words: the share that goes round in circles "
      "(fewer than {:.0f}% of its runs of four words differ), and the mean of that share of "
      "different runs.",
      kProbeWords, 100 * kLoopBelow);
  figure.table.columns = {"method", "texts", "looping", "loop_rate", "distinct_4"};
  RowChart chart;
  chart.text = {id + "-probes", figure.title, "Loop rate and distinct runs of four words of each method."};
  chart.x_label = "%";
  chart.percent = true;
  chart.series = {"loop rate", "distinct-4"};
  for (const MethodNumbers& method : run.methods) {
    double sum = 0;
    int64_t texts = 0, looping = 0;
    for (const SampleLine& sample : method.samples) {
      const std::vector<std::string> words = words_of(sample.given);
      if (!sample.generated || words.size() < kProbeWords) continue;
      const double distinct = distinct_4(words);
      ++texts;
      looping += distinct < kLoopBelow ? 1 : 0;
      sum += distinct;
    }
    if (texts == 0) continue;
    const double rate = static_cast<double>(looping) / static_cast<double>(texts);
    const double distinct = sum / static_cast<double>(texts);
    figure.table.add({method.name, std::to_string(texts), std::to_string(looping), number_text(rate),
                      number_text(distinct)});
    chart.rows.push_back(
        {method.name,
         {RowMark{rate, std::nullopt, fmt::format("{}: loop rate {}", method.name, number_text(rate))},
          RowMark{distinct, std::nullopt,
                  fmt::format("{}: distinct-4 {}", method.name, number_text(distinct))}}});
  }
  if (chart.rows.empty()) return;
  figure.body = draw(chart);
  figures->push_back(std::move(figure));
}

void add_generation(const RunRecord& run, const std::string& id, std::vector<Figure>* figures) {
  if (run.probes.empty()) return;
  Figure figure;
  figure.file = "generation";
  figure.title = "Continuations of probe prompts";
  figure.words = fmt::format(
      "{} prompts, continued greedily (<code>eep generate --probe</code>): the share that loops (fewer than "
      "{:.0f}% of its runs of four tokens differ), and the mean of that share of different runs.",
      run.probes[0].prompts, 100 * kLoopBelow);
  figure.table.columns = {"model", "prompts", "looping", "loop_rate", "distinct_4"};
  RowChart chart;
  chart.text = {id + "-generation", figure.title,
                "Loop rate and distinct runs of four tokens of each model."};
  chart.x_label = "%";
  chart.percent = true;
  chart.series = {"loop rate", "distinct-4"};
  for (const ProbeLine& probe : run.probes) {
    const double rate = static_cast<double>(probe.loops) / static_cast<double>(probe.prompts);
    const std::string distinct = probe.distinct4 ? number_text(*probe.distinct4) : "";
    figure.table.add({probe.model, std::to_string(probe.prompts), std::to_string(probe.loops),
                      number_text(rate), distinct});
    std::vector<std::optional<RowMark>> marks{
        RowMark{rate, std::nullopt, fmt::format("{}: loop rate {}", probe.model, number_text(rate))}};
    if (probe.distinct4) {
      marks.emplace_back(
          RowMark{*probe.distinct4, std::nullopt, fmt::format("{}: distinct-4 {}", probe.model, distinct)});
    }
    chart.rows.push_back({probe.model, std::move(marks)});
  }
  figure.body = draw(chart);
  figures->push_back(std::move(figure));
}

void add_checks(const RunRecord& run, std::vector<Figure>* figures) {
  if (run.checks.empty()) return;
  Figure figure;
  figure.file = "export_check";
  figure.title = "Checks of the exported model";
  figure.table.columns = {"check", "passed", "detail"};
  std::vector<std::vector<std::string>> rows;
  size_t failed = 0;
  for (const ExportCheck& check : run.checks) {
    figure.table.add({check.name, check.passed ? "true" : "false", check.detail});
    rows.push_back({check.passed ? "\u2713 passed" : "\u2717 FAILED", check.name, check.detail});
    failed += check.passed ? 0 : 1;
  }
  figure.words =
      failed == 0 ? fmt::format("All {} checks of <code>model/</code> passed.", run.checks.size())
                  : fmt::format("{} of {} checks of <code>model/</code> failed.", failed, run.checks.size());
  figure.body = html_table({"", "check", "found"}, rows, 3);
  figures->push_back(std::move(figure));
}

}  // namespace eep
