// expert_ffn: SwiGLU experts over sorted slots, empty and overloaded experts, a dense FFN as one group.
#include <numeric>

#include "kernels/dispatch.h"
#include "kernels/expert_ffn.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

struct Experts {
  ExpertCase c;
  Floats x;
  std::vector<Weights> gate, up, down;
  std::vector<Weights> gate_bias, up_bias, down_bias;  // or nothing
  float limit = 0, alpha = 1;
  std::vector<ExpertMatrices> matrices;
  std::vector<int32_t> expert;  // [rows, slots]

  explicit Experts(const ExpertCase& case_) : c(case_) {
    Data data(c.seed);
    x = data.floats(c.rows * c.hidden);
    for (int32_t e = 0; e < c.experts; ++e) {
      gate.emplace_back(data.floats(c.intermediate * c.hidden), c.intermediate, c.hidden, c.dtype);
      up.emplace_back(data.floats(c.intermediate * c.hidden), c.intermediate, c.hidden, c.dtype);
      down.emplace_back(data.floats(c.hidden * c.intermediate), c.hidden, c.intermediate, c.dtype);
      matrices.push_back({gate.back().packed, up.back().packed, down.back().packed});
    }
    for (int64_t slot = 0; slot < c.rows * c.slots; ++slot) {
      const int32_t half = c.experts / 2;
      expert.push_back(c.skew == 1   ? 1 % c.experts
                       : c.skew == 2 ? half + static_cast<int32_t>(data.below(c.experts - half))
                                     : static_cast<int32_t>(data.below(c.experts)));
    }
  }

  // What gpt-oss has: biases, and a limit that many values reach.
  void add_biases(float limit_, float alpha_) {
    Data data(c.seed + 100);
    limit = limit_;
    alpha = alpha_;
    for (ExpertMatrices& one : matrices) {
      gate_bias.emplace_back(data.floats(c.intermediate), c.intermediate, 1, c.dtype);
      up_bias.emplace_back(data.floats(c.intermediate), c.intermediate, 1, c.dtype);
      down_bias.emplace_back(data.floats(c.hidden), c.hidden, 1, c.dtype);
      one.gate_bias = gate_bias.back().packed;
      one.up_bias = up_bias.back().packed;
      one.down_bias = down_bias.back().packed;
    }
  }

  // Outputs of the slots of rows [first, first + rows).
  Floats run(int64_t first, int64_t rows, const Device& device) const {
    std::vector<int32_t> identity(static_cast<size_t>(c.experts)), offset(static_cast<size_t>(c.experts + 1));
    std::vector<int32_t> order(static_cast<size_t>(rows * c.slots));
    std::iota(identity.begin(), identity.end(), 0);
    DispatchArgs dispatch;
    dispatch.expert = expert.data() + first * c.slots;
    dispatch.rows = rows;
    dispatch.slots = c.slots;
    dispatch.group_of = identity.data();
    dispatch.group_stride = dispatch.groups = c.experts;
    dispatch.offset = offset.data();
    dispatch.order = order.data();
    dispatch_cpu(dispatch, device);
    Floats activation(static_cast<size_t>(rows * c.slots * c.intermediate));
    Floats out(static_cast<size_t>(rows * c.slots * c.hidden));
    ExpertFfnArgs args;
    args.x = x.data() + first * c.hidden;
    args.slots = c.slots;
    args.order = order.data();
    args.offset = offset.data();
    args.groups = c.experts;
    args.experts = matrices.data();
    args.hidden = c.hidden;
    args.intermediate = c.intermediate;
    args.activation = activation.data();
    args.limit = limit;
    args.alpha = alpha;
    args.out = out.data();
    expert_ffn_cpu(args, device);
    return out;
  }
};

void check_products(const Experts& experts) {
  const ExpertCase& c = experts.c;
  const Floats out =
      same_bits_everywhere([&](const Device& device) { return experts.run(0, c.rows, device); });
  std::vector<Bounded> expected;
  for (int64_t slot = 0; slot < c.rows * c.slots; ++slot) {
    const size_t e = static_cast<size_t>(experts.expert[static_cast<size_t>(slot)]);
    UnitOptions options;
    if (!experts.gate_bias.empty()) {
      options = {experts.gate_bias[e].values.data(), experts.up_bias[e].values.data(),
                 experts.down_bias[e].values.data(), static_cast<double>(experts.limit), experts.alpha};
    }
    const auto y = swiglu(experts.x.data() + slot / c.slots * c.hidden, experts.gate[e].values,
                          experts.up[e].values, experts.down[e].values, c.hidden, c.intermediate, options);
    expected.insert(expected.end(), y.begin(), y.end());
  }
  check_bounded(out, expected);
  same_bits_in_batches(out, c.rows, c.slots * c.hidden,
                       [&](int64_t first, int64_t rows) { return experts.run(first, rows, cpu(1)); });
}

}  // namespace

TEST_CASE("expert_ffn: within the bound, same bits everywhere and in every batch") {
  for (const ExpertCase& c : kExpertCases) {
    CAPTURE(c.seed);
    check_products(Experts(c));
  }
}

TEST_CASE("expert_ffn: biases and a limit, same bits everywhere and in every batch") {
  for (const ExpertCase& c : {kExpertCases[0], kExpertCases[2], kExpertCases[3], kExpertCases[5]}) {
    for (float limit : {0.0f, 0.75f}) {
      CAPTURE(c.seed);
      CAPTURE(limit);
      Experts experts(c);
      experts.add_biases(limit, 1.702f);
      check_products(experts);
    }
  }
}

TEST_CASE("expert_ffn: a dense FFN is one group without an order") {
  ExpertCase c = kExpertCases[2];
  c.slots = 1;
  c.experts = 1;
  const Experts experts(c);
  const Floats sorted = experts.run(0, c.rows, cpu(1));
  const std::vector<int32_t> offset = {0, static_cast<int32_t>(c.rows)};
  const Floats out = same_bits_everywhere([&](const Device& device) {
    Floats activation(static_cast<size_t>(c.rows * c.intermediate)),
        y(static_cast<size_t>(c.rows * c.hidden));
    ExpertFfnArgs args;
    args.x = experts.x.data();
    args.offset = offset.data();
    args.groups = 1;
    args.experts = experts.matrices.data();
    args.hidden = c.hidden;
    args.intermediate = c.intermediate;
    args.activation = activation.data();
    args.out = y.data();
    expert_ffn_cpu(args, device);
    return y;
  });
  CHECK(same_bits(out, sorted));
}

TEST_CASE("expert_ffn: no rows at all") {
  const Experts experts(kExpertCases[1]);
  CHECK(experts.run(0, 0, cpu(2)).empty());
}
