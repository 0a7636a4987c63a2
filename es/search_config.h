// search_config: what a search is told. Every default and every range is stated here and in the structs of
// parameters, and nowhere else.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "es/archive.h"
#include "es/operators.h"
#include "es/parameters.h"
#include "es/racing.h"
#include "es/shards.h"

namespace eep {

constexpr int64_t kMaxEvaluations = 10000000;  // of a phase
constexpr int32_t kMaxPopulation = 100000;     // 2^20 individuals of a generation have addresses

// The algorithms' own parameters at their defaults: [algorithms()], empty for one that has none.
std::vector<Parameters> default_own_parameters();

struct PhaseConfig {
  std::string algorithm = "eep";
  int64_t evaluations = 0;
  OperatorParameters parameters{};                         // of EEP's operators
  std::vector<Parameters> own = default_own_parameters();  // [algorithms()]

  bool operator==(const PhaseConfig&) const = default;
};

// What a search looks for besides the score; the smaller the better.
struct Objectives {
  bool parameters = false;  // kept experts
  bool active = false;      // experts that a token activates

  bool several() const { return parameters || active; }
  bool operator==(const Objectives&) const = default;
};

struct SearchConfig {
  uint64_t seed = 11450;    // of the released code
  int32_t population = 32;  // children made from the same archive and evaluated together; 1: steady state
  FitnessKind fitness = FitnessKind::kMetricThenLoglik;
  PhaseConfig prune{.evaluations = 101};
  PhaseConfig merge{.evaluations = 301};
  ShardConfig shards{};
  Objectives objectives{};
  RacingConfig racing{};

  bool operator==(const SearchConfig&) const = default;
};

// Throws Error(kConfig) naming the field (search.merge.sigma): ranges, algorithms that do not exist or cannot
// search the phase.
void check_search_config(const SearchConfig& config);
// With every parameter that is left to the fitness (parent_rule) set.
SearchConfig resolved(const SearchConfig& config);

}  // namespace eep
