// Metrics of one item, and the lossless early verdict: whether the metric can still change with more text.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/extract.h"

namespace eep {

enum class Metric : uint8_t {
  kAcc,            // arg-max of the choices' log-likelihoods
  kAccNorm,        // the same, per character of the choice
  kExactMatch,     // the answer equals a reference, white space at the ends apart
  kF1,             // best token F1 over the references, as SQuAD's own script
  kContains,       // a reference is a substring of the answer
  kEmContains,     // the paper's DROP and ReCoRD metric: normalised, substring
  kSquadContains,  // the paper's SQuAD metric
  kNumberEqual,    // the paper's GSM8K metric: equal text, or equal numbers within 1e-6
  kSquadExact,     // equal after SQuAD's own normalisation
};

std::optional<Metric> parse_metric(std::string_view name);
const char* metric_name(Metric metric);
const std::vector<std::string>& metric_names();
inline bool is_choice_metric(Metric metric) { return metric == Metric::kAcc || metric == Metric::kAccNorm; }
// 0 or 1 for every item (paired exact test), or a fraction.
inline bool is_binary(Metric metric) { return metric != Metric::kF1; }

// Score of a generated text, which has been cut at the stop strings.
double score_text(Metric metric, const ExtractRule& rule, std::string_view text,
                  const std::vector<std::string>& references);

// The score, if neither the end of the text nor any continuation of `text` can change it; nothing if they
// still can. `text` is UTF-8 that stays as it is, and holds no stop string.
std::optional<double> early_verdict(Metric metric, const ExtractRule& rule, std::string_view text,
                                    const std::vector<std::string>& references);

}  // namespace eep
