// expert_stats: f64 sums over a routed pass against the definitions; sums do not depend on threads or
// targets.
#include <array>

#include "kernels/expert_stats.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

constexpr size_t kFields = 10;
using Sums = std::vector<double>;  // [kFields, experts]

ExpertSums fields_of(Sums& sums, int32_t experts) {
  const auto field = [&](int32_t i) { return sums.data() + i * experts; };
  return {field(0), field(1), field(2), field(3), field(4), field(5), field(6), field(7), field(8), field(9)};
}

}  // namespace

TEST_CASE("expert_stats: the definitions, added to what is there, same bits everywhere") {
  for (const ExpertCase& c : kExpertCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats logits = data.floats(c.rows * c.experts, 5.0f), weight = data.floats(c.rows * c.slots);
    const Floats slot_out = data.floats(c.rows * c.slots * c.hidden);
    std::vector<int32_t> expert;
    for (int64_t slot = 0; slot < c.rows * c.slots; ++slot) {
      expert.push_back(data.uniform() < 0.1 ? -1 : static_cast<int32_t>(data.below(c.experts)));
    }
    const Sums actual = same_bits_everywhere([&](const Device& device) {
      Sums sums(kFields * static_cast<size_t>(c.experts), 0.5);
      ExpertStatsArgs args;
      args.logits = logits.data();
      args.expert = expert.data();
      args.weight = weight.data();
      args.slot_out = slot_out.data();
      args.rows = c.rows;
      args.slots = c.slots;
      args.experts = c.experts;
      args.hidden = c.hidden;
      args.sums = fields_of(sums, c.experts);
      expert_stats_cpu(args, device);
      return sums;
    });

    Sums expected(kFields * static_cast<size_t>(c.experts), 0.5), magnitude = expected;
    const auto add = [&](size_t field, int32_t e, double value) {
      const size_t at = field * static_cast<size_t>(c.experts) + static_cast<size_t>(e);
      expected[at] += value;
      magnitude[at] += std::fabs(value);
    };
    for (int64_t row = 0; row < c.rows; ++row) {
      const auto p = softmax(
          std::vector<double>(logits.begin() + row * c.experts, logits.begin() + (row + 1) * c.experts));
      for (int32_t e = 0; e < c.experts; ++e) add(3, e, p[static_cast<size_t>(e)]);
      for (int64_t slot = row * c.slots; slot < (row + 1) * c.slots; ++slot) {
        const int32_t e = expert[static_cast<size_t>(slot)];
        if (e < 0) continue;
        double squared = 0, largest = 0;
        for (int64_t i = 0; i < c.hidden; ++i) {
          const double value = static_cast<double>(slot_out[static_cast<size_t>(slot * c.hidden + i)]);
          squared += value * value;
          largest = std::max(largest, std::fabs(value));
        }
        const double norm = std::sqrt(squared), g = static_cast<double>(weight[static_cast<size_t>(slot)]);
        const double pe = p[static_cast<size_t>(e)];
        const double terms[9] = {1, g, pe, 0, norm, squared, g * norm, pe * norm, g * squared};
        for (size_t field : {0, 1, 2, 4, 5, 6, 7, 8}) add(field, e, terms[field]);
        double& peak = expected[9 * static_cast<size_t>(c.experts) + static_cast<size_t>(e)];
        peak = std::max(peak, largest);
      }
    }
    // Probabilities are off by 16u + u times the spread of the logits (10), squares by gamma_n(hidden).
    const double relative = 40 * kUnit + gamma_n(static_cast<double>(c.hidden));
    for (size_t i = 0; i < expected.size(); ++i) {
      CAPTURE(i);
      CHECK(std::fabs(actual[i] - expected[i]) <= relative * magnitude[i]);
    }
    for (int32_t e = 0; e < c.experts; ++e) {
      CHECK(actual[static_cast<size_t>(e)] == expected[static_cast<size_t>(e)]);  // counts are exact
      const size_t peak = 9 * static_cast<size_t>(c.experts) + static_cast<size_t>(e);
      CHECK(actual[peak] == expected[peak]);
    }
  }
}
