// expert_merge: f32 accumulation in ascending order, one rounding to the dtype: exact against the chain
// itself.
#include <limits>

#include "kernels/expert_merge.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

std::vector<std::vector<char>> run_merge(const std::vector<Typed>& base, const Floats& coefficient,
                                         const MergeCase& c, const Device& device,
                                         bool eep_rounding = false) {
  std::vector<std::vector<char>> merged(
      static_cast<size_t>(c.rows), std::vector<char>(static_cast<size_t>(c.elements) * dtype_size(c.dtype)));
  std::vector<const void*> from;
  std::vector<void*> to;
  for (const Typed& expert : base) from.push_back(expert.bytes.data());
  for (std::vector<char>& row : merged) to.push_back(row.data());
  ExpertMergeArgs args;
  args.base = from.data();
  args.experts = c.experts;
  args.elements = c.elements;
  args.dtype = c.dtype;
  args.coefficient = coefficient.data();
  args.rows = c.rows;
  args.merged = to.data();
  args.eep_rounding = eep_rounding;
  expert_merge_cpu(args, device);
  return merged;
}

// Base experts and coefficients, some of them zero, some 2^-8: sums of bf16 values that tie.
struct Problem {
  MergeCase c;
  std::vector<Typed> base;
  Floats coefficient;  // [rows, experts]

  explicit Problem(const MergeCase& case_) : c(case_) {
    Data data(c.seed);
    for (int32_t e = 0; e < c.experts; ++e) base.emplace_back(data.floats(c.elements), c.dtype);
    coefficient = data.floats(c.rows * c.experts);
    for (float& value : coefficient) {
      if (data.uniform() < 0.3) value = 0;
      if (data.uniform() < 0.3) value = 0.00390625f;
    }
  }
  // The rows that step(sum, coefficient, value) makes of the experts in ascending order, zero coefficients
  // left out.
  template <class Step>
  std::vector<std::vector<char>> rows(const Step& step) const {
    std::vector<std::vector<char>> merged;
    for (int32_t row = 0; row < c.rows; ++row) {
      Floats sums;
      for (size_t i = 0; i < static_cast<size_t>(c.elements); ++i) {
        float sum = 0;
        for (int32_t e = 0; e < c.experts; ++e) {
          const float scale = coefficient[static_cast<size_t>(row * c.experts + e)];
          if (scale != 0) sum = step(sum, scale, base[static_cast<size_t>(e)].values[i]);
        }
        sums.push_back(sum);
      }
      merged.push_back(Typed(sums, c.dtype).bytes);
    }
    return merged;
  }
};

}  // namespace

TEST_CASE("expert_merge: the chain of fma, then one rounding, exactly, on every target") {
  for (const MergeCase& c : kMergeCases) {
    CAPTURE(c.seed);
    const Problem problem(c);
    const auto expected =
        problem.rows([](float sum, float scale, float value) { return std::fma(scale, value, sum); });
    for (const std::string& target : cpu_targets()) {
      set_cpu_target(target);
      for (int threads : {1, 2, 3})
        CHECK(run_merge(problem.base, problem.coefficient, c, cpu(threads)) == expected);
    }
    set_cpu_target("auto");
  }
}

TEST_CASE("expert_merge: with eep_rounding each product and sum is rounded, exactly, on every target") {
  for (const MergeCase& c : kMergeCases) {
    CAPTURE(c.seed);
    const Problem problem(c);
    const auto rounded = [&](float value) { return Typed({value}, c.dtype).values[0]; };
    const auto expected = problem.rows(
        [&](float sum, float scale, float value) { return rounded(sum + rounded(scale * value)); });
    for (const std::string& target : cpu_targets()) {
      set_cpu_target(target);
      CHECK(run_merge(problem.base, problem.coefficient, c, cpu(2), true) == expected);
    }
    set_cpu_target("auto");
  }
}

TEST_CASE("expert_merge: one-hot rows copy, zero coefficients skip even infinities, padding stays zero") {
  const MergeCase c{3, 2, 16 * 33, DType::kBF16, 96};
  Data data(c.seed);
  std::vector<Typed> base;
  for (int32_t e = 0; e < c.experts; ++e) {
    Floats values = data.floats(c.elements);
    for (size_t i = 15; i < values.size(); i += 16) values[i] = 0;  // a panel's padding
    if (e == 1) values[0] = std::numeric_limits<float>::infinity();
    base.emplace_back(values, c.dtype);
  }
  const auto merged = run_merge(base, {0, 0, 1, 0.5f, 0, 0.25f}, c, cpu(1));
  CHECK(merged[0] == base[2].bytes);
  for (size_t i = 0; i < static_cast<size_t>(c.elements); ++i) {
    uint16_t bits;
    std::memcpy(&bits, &merged[1][2 * i], 2);
    CHECK(std::isfinite(bf16_to_f32(bits)));
    if (i % 16 == 15) CHECK(bits == 0);
  }
}
