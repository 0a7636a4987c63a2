// Test functions for a comparison with other implementations:
//   cross_minimise ALGORITHM sphere|ellipsoid|rosenbrock DIMENSIONS BUDGET TARGET SEEDS
// prints, a line a seed, how many evaluations it took to a value of at most TARGET, or -1. The coefficients
// of a plan of two experts a layer are the variables; sigma is 0.5; the start is 1 (rosenbrock: 0)
// everywhere.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <string>

#include "es/algorithms.h"
#include "es/coordinates.h"
#include "es/search.h"
#include "kernels/common/error.h"

using namespace eep;

namespace {

double value_of(const std::string& function, const std::vector<double>& x) {
  double sum = 0.0;
  const auto last = static_cast<double>(x.size() - 1);
  for (size_t i = 0; i < x.size(); ++i) {
    if (function == "sphere") sum += x[i] * x[i];
    if (function == "ellipsoid") sum += std::pow(10.0, 6.0 * static_cast<double>(i) / last) * x[i] * x[i];
    if (function == "rosenbrock" && i + 1 < x.size()) {
      const double valley = x[i + 1] - x[i] * x[i];
      sum += 100.0 * valley * valley + (1.0 - x[i]) * (1.0 - x[i]);
    }
  }
  return sum;
}

class SetSigma final : public ParameterVisitor {
 public:
  void number(const char* name, double& value, double, double) override {
    if (std::string(name) == "sigma") value = 0.5;
  }
  void integer(const char*, int32_t&, int32_t, int32_t) override {}
  void flag(const char*, bool&) override {}
  void choice(const char*, uint8_t&, std::span<const std::string_view>) override {}
  void constant(const char*, double&, double, double) override {}
};

GenomeSpace space_of(int64_t dimensions) {
  GenomeSpace space;
  space.experts = 2;
  space.top_k = 1;
  for (int32_t group = 0; group < dimensions / 8; ++group) {
    space.kept.push_back(2);
    space.layers.push_back({group});
  }
  return space;
}

int64_t evaluations_to(const std::string& algorithm, const std::string& function, int64_t dimensions,
                       int64_t budget, double target, uint64_t seed) {
  const GenomeSpace space = space_of(dimensions);
  SearchConfig config{.seed = seed, .fitness = FitnessKind::kLoglik};
  config.merge.algorithm = algorithm;
  config.merge.evaluations = budget;
  SetSigma set;
  for (Parameters& own : config.merge.own) own.walk(set);
  const std::vector<double> identity = to_coordinates(identity_genome(space));
  const double start = function == "rosenbrock" ? 0.0 : 1.0;
  int64_t count = 0, reached = -1;
  Search search(space, config);
  search.run(Evaluate([&](std::span<const Genome> genomes) {
    std::vector<Evaluation> results;
    for (const Genome& genome : genomes) {
      std::vector<double> x = to_coordinates(genome);
      for (size_t i = 0; i < x.size(); ++i) x[i] += start - identity[i];
      const double value = value_of(function, x);
      ++count;
      if (value <= target && reached < 0) reached = count;
      results.push_back({-value, -value, 1});
    }
    return results;
  }));
  return reached;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 7) {
    std::fprintf(stderr, "usage: %s ALGORITHM FUNCTION DIMENSIONS BUDGET TARGET SEEDS\n", arguments[0]);
    return 2;
  }
  try {
    for (uint64_t seed = 1; seed <= std::strtoull(arguments[6], nullptr, 10); ++seed) {
      const int64_t evaluations =
          evaluations_to(arguments[1], arguments[2], std::atoll(arguments[3]), std::atoll(arguments[4]),
                         std::strtod(arguments[5], nullptr), seed);
      std::printf("%lld\n", static_cast<long long>(evaluations));
    }
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
