// expert_stats: f64 sums over a routed pass against the definitions; sums do not depend on threads or
// targets, and a GPU's are the CPU's.
#include "tests/kernels/ops/op_rows.h"

using namespace eep;
using namespace eep::test;

namespace {

constexpr int32_t kFields = 10;
using Sums = std::vector<double>;  // [kFields, experts]

ExpertSums fields_of(double* sums, int32_t experts) {
  const auto field = [&](int32_t i) { return sums + i * experts; };
  return {field(0), field(1), field(2), field(3), field(4), field(5), field(6), field(7), field(8), field(9)};
}

struct StatsProblem {
  ExpertCase c;
  Floats logits, weight, slot_out;
  std::vector<int32_t> expert;

  explicit StatsProblem(const ExpertCase& case_) : c(case_) {
    Data data(c.seed);
    logits = data.floats(c.rows * c.experts, 5.0f);
    weight = data.floats(c.rows * c.slots);
    slot_out = data.floats(c.rows * c.slots * c.hidden);
    for (int64_t slot = 0; slot < c.rows * c.slots; ++slot) {
      expert.push_back(data.uniform() < 0.1 ? -1 : static_cast<int32_t>(data.below(c.experts)));
    }
  }

  template <class Row>
  Sums run(const Device& device) const {
    const Input<Row, float> logits_in(logits), weight_in(weight), out_in(slot_out);
    const Input<Row, int32_t> expert_in(expert);
    const Output<Row, double> sums(kFields * c.experts, 0.5);
    ExpertStatsArgs args;
    args.logits = logits_in.data();
    args.expert = expert_in.data();
    args.weight = weight_in.data();
    args.slot_out = out_in.data();
    args.rows = c.rows;
    args.slots = c.slots;
    args.experts = c.experts;
    args.hidden = c.hidden;
    args.sums = fields_of(sums.data(), c.experts);
    call(Row(), args, device);
    return sums.values();
  }
  void check(const Sums& actual) const;
};

void StatsProblem::check(const Sums& actual) const {
  Sums expected(static_cast<size_t>(kFields * c.experts), 0.5), magnitude = expected;
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

}  // namespace

EVERY_ROW("expert_stats: the definitions, added to what is there, same bits everywhere, the CPU's") {
  for (const ExpertCase& c : kExpertCases) {
    CAPTURE(c.seed);
    const StatsProblem p(c);
    const Sums sums = Row::same_bits([&](const Device& device) { return p.run<Row>(device); });
    p.check(sums);
    CHECK(same_bits(sums, p.run<Cpu>(cpu(1))));
  }
}
