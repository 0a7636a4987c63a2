// expert_merge on the host executor: the CPU's chain exactly for few experts; for many, tensor cores with
// split coefficients within their bound; bits that depend on a row's coefficients alone.
#include <limits>
#include <memory>

#include "kernels/common/error.h"
#include "kernels/expert_merge.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/gpu_matrices.h"

using namespace eep;
using namespace eep::test;

namespace {

// Few and many experts, tiles and rows that do not come out even.
constexpr MergeCase kGpuCases[] = {
    {16, 6, 777, DType::kBF16, 101},   {9, 4, 64, DType::kF16, 102},      {17, 1, 8, DType::kBF16, 103},
    {60, 37, 600, DType::kF16, 104},   {128, 20, 264, DType::kBF16, 105}, {33, 70, 130, DType::kBF16, 106},
    {193, 3, 129, DType::kBF16, 107},  {512, 17, 130, DType::kF16, 108},  {200, 150, 130, DType::kF16, 116},
    {20, 140, 260, DType::kBF16, 117}, {520, 65, 24, DType::kBF16, 118},  {1024, 2, 72, DType::kF16, 119}};

struct Problem {
  MergeCase c;
  DType dtype;
  std::vector<Floats> values;  // [experts][elements], rounded
  std::vector<std::unique_ptr<OnDevice<uint16_t>>> base;
  Floats coefficient;  // [rows, experts]
  bool eep_rounding = false;

  explicit Problem(const MergeCase& case_) : c(case_), dtype(dtype_on_gpu(c.dtype)) {
    Data data(c.seed);
    for (int32_t e = 0; e < c.experts; ++e) add_expert(data.floats(c.elements));
    coefficient = data.floats(int64_t{c.rows} * c.experts);
    for (float& value : coefficient) {
      if (data.uniform() < 0.3) value = 0;
      if (data.uniform() < 0.3) value = 0.00390625f;  // 2^-8 of a bf16 value: sums that tie
    }
  }
  void add_expert(const Floats& source) {
    values.push_back(rounded(source, dtype));
    std::vector<uint16_t> bits;
    for (float value : source) bits.push_back(narrow(value, dtype));
    base.push_back(std::make_unique<OnDevice<uint16_t>>(bits));
  }

  std::vector<uint16_t> run(int64_t first, int64_t rows) const {
    std::vector<const void*> from;
    std::vector<void*> to;
    std::vector<std::unique_ptr<OnDevice<uint16_t>>> merged;
    for (const auto& expert : base) from.push_back(expert->data());
    for (int64_t row = 0; row < rows; ++row) {
      merged.push_back(std::make_unique<OnDevice<uint16_t>>(c.elements, uint16_t{0x7fff}));
      to.push_back(merged.back()->data());
    }
    ExpertMergeArgs args;
    args.base = from.data();
    args.experts = c.experts;
    args.elements = c.elements;
    args.dtype = dtype;
    args.coefficient = coefficient.data() + first * c.experts;
    args.rows = static_cast<int32_t>(rows);
    args.merged = to.data();
    args.eep_rounding = eep_rounding;
    GPU_ROW(expert_merge)(args, gpu_device());
    std::vector<uint16_t> out;
    for (const auto& row : merged) {
      const std::vector<uint16_t> bits = row->values();
      out.insert(out.end(), bits.begin(), bits.end());
    }
    return out;
  }
  // Element i of merged row `row`. The split leaves u^2 of a coefficient (and what lies below the type's
  // smallest number). A product is exact; each of the two sums an expert brings is off by at most 2 u_f32 of
  // the sum of magnitudes (gpu_matrices.h), which lo raises by u; then one rounding. The chain of few experts
  // is closer.
  Bounded value(int32_t row, int64_t i) const {
    const double u = unit_16bit(dtype);
    Bounded value{0, tiny_16bit(dtype)};
    double magnitude = 0;
    for (int32_t e = 0; e < c.experts; ++e) {
      const double factor = static_cast<double>(scale(row, e));
      const double weight = static_cast<double>(values[static_cast<size_t>(e)][static_cast<size_t>(i)]);
      value.expected += factor * weight;
      magnitude += std::fabs(factor * weight);
      value.bound += (u * u * std::fabs(factor) + tiny_16bit(dtype)) * std::fabs(weight);
    }
    value.bound += 2 * gamma_n(2 * c.experts) * (1 + u) * magnitude;
    value.bound += u * (std::fabs(value.expected) + value.bound);
    return value;
  }
  float scale(int64_t row, int32_t expert) const {
    return coefficient[static_cast<size_t>(row * c.experts + expert)];
  }
};

// The rows that step(sum, coefficient, value) makes of the experts in ascending order, zero coefficients left
// out.
template <class Step>
std::vector<uint16_t> rows_of(const Problem& p, const Step& step) {
  std::vector<uint16_t> rows;
  for (int32_t row = 0; row < p.c.rows; ++row) {
    for (size_t i = 0; i < static_cast<size_t>(p.c.elements); ++i) {
      float sum = 0;
      for (int32_t e = 0; e < p.c.experts; ++e) {
        if (p.scale(row, e) != 0) sum = step(sum, p.scale(row, e), p.values[static_cast<size_t>(e)][i]);
      }
      rows.push_back(narrow(sum, p.dtype));
    }
  }
  return rows;
}

std::vector<MergeCase> all_cases() {
  std::vector<MergeCase> cases(std::begin(kMergeCases), std::end(kMergeCases));
  cases.insert(cases.end(), std::begin(kGpuCases), std::end(kGpuCases));
  return cases;
}

}  // namespace

TEST_CASE("gpu expert_merge: few experts are the chain of fma, then one rounding, exactly") {
  for (const MergeCase& c : all_cases()) {
    if (c.experts > 16) continue;
    CAPTURE(c.seed);
    const Problem p(c);
    const std::vector<uint16_t> expected =
        rows_of(p, [](float sum, float scale, float value) { return std::fma(scale, value, sum); });
    CHECK(same_bits(same_bits_in_schedules([&] { return p.run(0, c.rows); }), expected));
  }
}

TEST_CASE(
    "gpu expert_merge: with eep_rounding each product and sum is rounded, exactly, for any number of "
    "experts") {
  for (const MergeCase& c : all_cases()) {
    CAPTURE(c.seed);
    Problem p(c);
    p.eep_rounding = true;
    const auto round = [&](float value) { return rounded({value}, p.dtype)[0]; };
    const std::vector<uint16_t> expected =
        rows_of(p, [&](float sum, float scale, float value) { return round(sum + round(scale * value)); });
    CHECK(same_bits(same_bits_in_schedules([&] { return p.run(0, c.rows); }), expected));
  }
}

TEST_CASE("gpu expert_merge: many experts within the bound of split coefficients, in every schedule") {
  for (const MergeCase& c : all_cases()) {
    if (c.experts <= 16) continue;
    CAPTURE(c.seed);
    const Problem p(c);
    const auto bits = same_bits_in_schedules([&] { return p.run(0, c.rows); });
    Floats out;
    std::vector<Bounded> expected;
    for (int32_t row = 0; row < c.rows; ++row) {
      for (int64_t i = 0; i < c.elements; ++i) {
        expected.push_back(p.value(row, i));
        out.push_back(widen(bits[static_cast<size_t>(row * c.elements + i)], p.dtype));
      }
    }
    check_bounded(out, expected);
  }
}

TEST_CASE("gpu expert_merge: a row has the same bits whichever rows are merged with it") {
  for (const MergeCase& c : all_cases()) {
    CAPTURE(c.seed);
    const Problem p(c);
    const std::vector<uint16_t> whole = p.run(0, c.rows);
    for (int64_t batch : {1, 5, 33}) {
      if (batch > c.rows) break;
      const int64_t step = std::max<int64_t>(1, (c.rows - batch) / 3);
      for (int64_t first = 0; first + batch <= c.rows; first += step) {
        CHECK(same_bits(p.run(first, batch).data(), whole.data() + first * c.elements, batch * c.elements));
      }
    }
  }
}

TEST_CASE("gpu expert_merge: one-hot rows copy, with few and with many experts") {
  for (int32_t experts : {3, 40}) {
    Problem p(MergeCase{experts, experts, 300, DType::kBF16, 110});
    p.coefficient.assign(static_cast<size_t>(experts * experts), 0.0f);
    for (int32_t e = 0; e < experts; ++e) p.coefficient[static_cast<size_t>(e * experts + e)] = 1.0f;
    const std::vector<uint16_t> merged = p.run(0, experts);
    for (int32_t e = 0; e < experts; ++e) {
      CHECK(same_bits(merged.data() + e * 300, p.base[static_cast<size_t>(e)]->values().data(), 300));
    }
  }
}

TEST_CASE("gpu expert_merge: of few experts, one with coefficient zero may be infinite") {
  Problem p(MergeCase{2, 1, 16, DType::kBF16, 111});
  p.add_expert(Floats(16, std::numeric_limits<float>::infinity()));
  p.c.experts = 3;
  p.coefficient = {0.5f, 0.25f, 0.0f};
  for (uint16_t bits : p.run(0, 1)) CHECK(std::isfinite(bf16_to_f32(bits)));
}

TEST_CASE("gpu expert_merge: more rows than one launch has coefficients for") {
  const Problem p(MergeCase{16, 800, 40, DType::kBF16, 112});
  const std::vector<uint16_t> whole = p.run(0, 800);
  CHECK(same_bits(p.run(790, 10).data(), whole.data() + 790 * 40, 400));
}

// Extents of a block's whole share and more: 8 to 4 and 128 to 64 experts.
TEST_CASE("gpu expert_merge: full width, sampled, and each row alone") {
#ifdef EEP_TEST_CUDA
  const MergeCase cases[] = {{8, 4, 3 << 20, DType::kBF16, 114}, {128, 64, 3 << 16, DType::kBF16, 115}};
#else
  const MergeCase cases[] = {{8, 4, 40000, DType::kBF16, 114}, {128, 64, 2100, DType::kBF16, 115}};
#endif
  for (const MergeCase& c : cases) {
    CAPTURE(c.seed);
    const Problem p(c);
    const std::vector<uint16_t> whole = p.run(0, c.rows);
    Data data(c.seed + 900);
    Floats out;
    std::vector<Bounded> expected;
    for (int sample = 0; sample < 256; ++sample) {
      const int32_t row = static_cast<int32_t>(data.below(c.rows));
      const int64_t i = data.below(c.elements);
      out.push_back(widen(whole[static_cast<size_t>(row * c.elements + i)], p.dtype));
      expected.push_back(p.value(row, i));
    }
    check_bounded(out, expected);
    CHECK(same_bits(p.run(c.rows - 1, 1).data(), whole.data() + (c.rows - 1) * c.elements, c.elements));
  }
}

TEST_CASE("gpu expert_merge: what it cannot do is refused") {
  Problem p(MergeCase{17, 1, 8, DType::kF16, 113});
  p.coefficient[5] = 1e6f;
  CHECK(throws_with([&] { p.run(0, 1); }, "expert_merge: coefficient of row 0, expert 5 is 1000000"));
  p.dtype = DType::kF32;
  CHECK(throws_with([&] { p.run(0, 1); }, "weights are F32"));
  p.dtype = DType::kF16;
  p.c.experts = 1025;
  CHECK(throws_with([&] { p.run(0, 1); }, "at most 1024, got 1025"));
}
