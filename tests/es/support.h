// Helpers of the search tests: bounds on rates, synthetic evaluators.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "es/algorithms.h"
#include "es/kept_sets.h"
#include "es/search.h"

namespace eep::test {

// `hits` of `trials` at probability p: within five standard deviations of the binomial (outside with less
// than 6e-7 in the normal limit), and one count for trials where the limit is coarse.
inline void check_rate(int64_t hits, int64_t trials, double p) {
  const double n = static_cast<double>(trials);
  const double bound = 5.0 * std::sqrt(n * p * (1.0 - p)) + 1.0;
  INFO("hits " << hits << " of " << trials << ", expected " << n * p << " +- " << bound);
  CHECK(std::abs(static_cast<double>(hits) - n * p) <= bound);
}

inline GenomeSpace make_space(int32_t experts, std::vector<int32_t> kept) {
  GenomeSpace space;
  space.experts = experts;
  space.top_k = 2;
  for (size_t group = 0; group < kept.size(); ++group) space.layers.push_back({static_cast<int32_t>(group)});
  space.kept = std::move(kept);
  return space;
}

// One whose kept counts vary under a total over `groups` layers, from an even start.
inline GenomeSpace make_counts_space(int32_t experts, size_t groups, int64_t total, int32_t least,
                                     int32_t most) {
  GenomeSpace space = make_space(experts, std::vector<int32_t>(groups, least));
  space.kept = even_counts(space.layers, total, least, most);
  space.total = total;
  space.least = least;
  space.most = most;
  return space;
}

// The algorithm in both phases, or where it cannot merge, the default one there.
inline void set_algorithm(SearchConfig* config, std::string_view name) {
  config->prune.algorithm = name;
  const std::vector<std::string_view> merging = algorithm_names(Phase::kMerge);
  if (std::find(merging.begin(), merging.end(), name) != merging.end()) config->merge.algorithm = name;
}

inline std::vector<int32_t> kept_experts(const GroupGenes& group, int32_t experts) {
  return one_hot_rows(group.w_em, group.kept, experts);
}

inline std::string archive_text(const Search& search) {
  std::string text;
  for (const ArchiveEntry& entry : search.archive().entries()) {
    text += archive_line(entry, search.archive().fitness_kind()) + "\n";
  }
  return text;
}

// A fitness that differs for almost all genomes but is coarse, as an accuracy: a function of the hash.
inline Evaluation hashed_evaluation(const Genome& genome, int32_t experts) {
  const GenomeHash hash = canonical_hash(genome, experts);
  return {static_cast<double>(hash.low % 65) / 64.0, -static_cast<double>(hash.high % 1000) / 7.0, 64};
}

inline Evaluate hashed_evaluator(int32_t experts) {
  return [experts](std::span<const Genome> genomes) {
    std::vector<Evaluation> results;
    for (const Genome& genome : genomes) results.push_back(hashed_evaluation(genome, experts));
    return results;
  };
}

}  // namespace eep::test
