// Metrics of one item, and the lossless early verdict: whether the metric can still change with more text.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/tasks/extract.h"

namespace eep {

enum class Metric : uint8_t {
  kAcc,
  kAccNorm,
  kExactMatch,
  kF1,
  kContains,
  kEmContains,
  kSquadContains,
  kNumberEqual,
  kSquadExact,
  kDropExact,
  kDropF1,
  kAccBytes,
  kMacroF1,
};

// A row of the table of metrics.
struct MetricRow {
  std::string_view name;
  std::string_view words;
  // Of an extracted answer against one reference; the best over the references counts. Null: of choices.
  double (*score)(const ExtractRule& rule, const std::string& answer, const std::string& reference) = nullptr;
  bool binary = true;  // 0 or 1 for every item (paired exact test), else a fraction
};

std::span<const MetricRow> metrics();  // in the order of the enum
const MetricRow& metric_row(Metric metric);
std::optional<Metric> parse_metric(std::string_view name);
std::string metric_name(Metric metric);
std::vector<std::string> metric_names();
inline bool is_choice_metric(Metric metric) { return metric_row(metric).score == nullptr; }
inline bool is_binary(Metric metric) { return metric_row(metric).binary; }

// Mean over `classes` choices of the F1 of choosing each, 0 where one is never right nor chosen: the metric
// macro_f1, of all items together. [items] each.
double macro_f1(std::span<const int32_t> chosen, std::span<const int32_t> right, size_t classes);

// Whether nothing that the metric compares is left of a reference: it would be found in every output.
bool normalises_to_nothing(Metric metric, const ExtractRule& rule, const std::string& reference);

// What a reference would have to be so that some answer of the rule can meet it; empty if it is: an extracted
// letter never equals a word, an extracted number never a text.
std::string out_of_reach(Metric metric, const ExtractRule& rule, const std::string& reference);

// Score of a generated text, which has been cut at the stop strings.
double score_text(Metric metric, const ExtractRule& rule, std::string_view text,
                  const std::vector<std::string>& references);

// The score, if neither the end of the text nor any continuation of `text` can change it; nothing if they
// still can. `text` is UTF-8 that stays as it is, and holds no stop string.
std::optional<double> early_verdict(Metric metric, const ExtractRule& rule, std::string_view text,
                                    const std::vector<std::string>& references);

}  // namespace eep
