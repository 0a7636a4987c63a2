#include "es/search_config.h"

#include <fmt/format.h>

#include "es/algorithms.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

void check_count(const char* name, int64_t value, int64_t smallest, int64_t largest) {
  if (value >= smallest && value <= largest) return;
  throw Error(ExitCode::kConfig, name,
              "value out of range" + expected_got(fmt::format("{}..{}", smallest, largest), value));
}

// By value: a visitor may write.
void check_phase(PhaseConfig config, Phase phase) {
  const std::string where = std::string("search.") + to_string(phase);
  check_count((where + ".evaluations").c_str(), config.evaluations, phase == Phase::kPrune ? 1 : 0,
              kMaxEvaluations);
  find_algorithm(config, phase);
  ParameterCheck operators(where);
  visit(operators, config.parameters);
  for (size_t i = 0; i < algorithms().size(); ++i) {
    const std::string section = fmt::format("{}.{}", where, algorithms()[i].name);
    ParameterCheck own(section);
    config.own.at(i).walk(own);
  }
}

}  // namespace

void check_search_config(const SearchConfig& config) {
  check_count("search.population", config.population, 1, kMaxPopulation);
  check_phase(config.prune, Phase::kPrune);
  check_phase(config.merge, Phase::kMerge);
  check_racing(config.racing);
  if (config.racing.on && config.objectives.several()) {
    throw Error(ExitCode::kConfig, "search.racing",
                "a race has one objective" + expected_got("search.objectives: [score]", "several"));
  }
}

SearchConfig resolved(const SearchConfig& config) {
  SearchConfig resolved = config;
  for (PhaseConfig* phase : {&resolved.prune, &resolved.merge}) {
    ParentRule& rule = phase->parameters.parent_rule;
    if (rule == ParentRule::kAuto) rule = parent_rule_of(config.fitness);
  }
  return resolved;
}

}  // namespace eep
