// expert_merge: f32 accumulation in ascending order, one rounding to the dtype. Exact against the chain
// itself, but for many experts on a GPU: tensor cores with split coefficients, within their bound. Bits
// depend on a row's coefficients alone.
#include <limits>

#include "tests/kernels/ops/op_rows.h"

using namespace eep;
using namespace eep::test;

namespace {

// Few and many experts, tiles and rows that do not come out even.
constexpr MergeCase kMoreCases[] = {
    {16, 6, 777, DType::kBF16, 101},   {9, 4, 64, DType::kF16, 102},      {17, 1, 8, DType::kBF16, 103},
    {60, 37, 600, DType::kF16, 104},   {128, 20, 264, DType::kBF16, 105}, {33, 70, 130, DType::kBF16, 106},
    {193, 3, 129, DType::kBF16, 107},  {512, 17, 130, DType::kF16, 108},  {200, 150, 130, DType::kF16, 116},
    {20, 140, 260, DType::kBF16, 117}, {520, 65, 24, DType::kBF16, 118},  {1024, 2, 72, DType::kF16, 119}};
constexpr int32_t kFewExperts = 16;  // so many a GPU sums by the chain

std::vector<MergeCase> all_cases() {
  std::vector<MergeCase> cases(std::begin(kMergeCases), std::end(kMergeCases));
  cases.insert(cases.end(), std::begin(kMoreCases), std::end(kMoreCases));
  return cases;
}

// Base experts and coefficients, some of them zero, some 2^-8: sums of bf16 values that tie.
template <class Row>
struct MergeProblem {
  MergeCase c;
  DType dtype;
  std::vector<Typed> base;                            // [experts][elements], rounded
  std::vector<std::unique_ptr<Input<Row, char>>> in;  // their bytes
  Floats coefficient;                                 // [rows, experts]
  bool eep_rounding = false;

  explicit MergeProblem(const MergeCase& case_) : c(case_), dtype(Row::dtype(c.dtype)) {
    Data data(c.seed);
    for (int32_t e = 0; e < c.experts; ++e) add_expert(data.floats(c.elements));
    coefficient = data.floats(int64_t{c.rows} * c.experts);
    for (float& value : coefficient) {
      if (data.uniform() < 0.3) value = 0;
      if (data.uniform() < 0.3) value = 0.00390625f;
    }
  }
  void add_expert(const Floats& source) {
    base.emplace_back(source, dtype);
    in.push_back(std::make_unique<Input<Row, char>>(base.back().bytes));
  }
  size_t row_bytes() const { return static_cast<size_t>(c.elements) * dtype_size(dtype); }

  // Bytes of rows [first, first + rows).
  std::vector<char> run(int64_t first, int64_t rows, const Device& device = Row::device()) const {
    std::vector<const void*> from;
    std::vector<void*> to;
    std::vector<std::unique_ptr<Output<Row, char>>> merged;
    for (const auto& expert : in) from.push_back(expert->data());
    for (int64_t row = 0; row < rows; ++row) {
      merged.push_back(std::make_unique<Output<Row, char>>(static_cast<int64_t>(row_bytes()), char{0x7f}));
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
    call(Row(), args, device);
    std::vector<char> out;
    for (const auto& row : merged) {
      const std::vector<char> bytes = row->values();
      out.insert(out.end(), bytes.begin(), bytes.end());
    }
    return out;
  }
  std::vector<char> run_everywhere() const {
    return Row::same_bits([&](const Device& device) { return run(0, c.rows, device); });
  }
  const char* row_of(const std::vector<char>& merged, int64_t row) const {
    return merged.data() + static_cast<size_t>(row) * row_bytes();
  }
  float element(const std::vector<char>& merged, int64_t row, int64_t i) const {
    const char* at = row_of(merged, row) + static_cast<size_t>(i) * dtype_size(dtype);
    if (dtype == DType::kF32) {
      float value;
      std::memcpy(&value, at, sizeof value);
      return value;
    }
    uint16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    return widen(bits, dtype);
  }

  float scale(int64_t row, int32_t expert) const {
    return coefficient[static_cast<size_t>(row * c.experts + expert)];
  }
  // The rows that step(sum, coefficient, value) makes of the experts in ascending order, zero coefficients
  // left out.
  template <class Step>
  std::vector<char> rows_of(const Step& step) const {
    Floats sums;
    for (int32_t row = 0; row < c.rows; ++row) {
      for (size_t i = 0; i < static_cast<size_t>(c.elements); ++i) {
        float sum = 0;
        for (int32_t e = 0; e < c.experts; ++e) {
          if (scale(row, e) != 0) sum = step(sum, scale(row, e), base[static_cast<size_t>(e)].values[i]);
        }
        sums.push_back(sum);
      }
    }
    return Typed(sums, dtype).bytes;
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
      const double weight = static_cast<double>(base[static_cast<size_t>(e)].values[static_cast<size_t>(i)]);
      value.expected += factor * weight;
      magnitude += std::fabs(factor * weight);
      value.bound += (u * u * std::fabs(factor) + tiny_16bit(dtype)) * std::fabs(weight);
    }
    value.bound += 2 * gamma_n(2 * c.experts) * (1 + u) * magnitude;
    value.bound += u * (std::fabs(value.expected) + value.bound);
    return value;
  }
};

}  // namespace

EVERY_ROW("expert_merge: the chain of fma, then one rounding, exactly; on a GPU of few experts") {
  for (const MergeCase& c : all_cases()) {
    if (!Row::kHost && c.experts > kFewExperts) continue;
    CAPTURE(c.seed);
    const MergeProblem<Row> p(c);
    const auto chain = [](float sum, float scale, float value) { return std::fma(scale, value, sum); };
    CHECK(same_bits(p.run_everywhere(), p.rows_of(chain)));
  }
}

EVERY_ROW(
    "expert_merge: with eep_rounding each product and sum is rounded, exactly, for any number of experts") {
  for (const MergeCase& c : all_cases()) {
    CAPTURE(c.seed);
    MergeProblem<Row> p(c);
    p.eep_rounding = true;
    const auto round = [&](float value) {
      if (p.dtype == DType::kF32) return value;
      return widen(narrow(value, p.dtype), p.dtype);
    };
    const auto chain = [&](float sum, float scale, float value) { return round(sum + round(scale * value)); };
    CHECK(same_bits(p.run_everywhere(), p.rows_of(chain)));
  }
}

TEST_CASE("gpu expert_merge: many experts within the bound of split coefficients, in every schedule") {
  for (const MergeCase& c : all_cases()) {
    if (c.experts <= kFewExperts) continue;
    CAPTURE(c.seed);
    const MergeProblem<Gpu> p(c);
    const std::vector<char> merged = p.run_everywhere();
    Floats out;
    std::vector<Bounded> expected;
    for (int32_t row = 0; row < c.rows; ++row) {
      for (int64_t i = 0; i < c.elements; ++i) {
        expected.push_back(p.value(row, i));
        out.push_back(p.element(merged, row, i));
      }
    }
    check_bounded(out, expected);
  }
}

EVERY_ROW("expert_merge: a row has the same bits whichever rows are merged with it") {
  for (const MergeCase& c : all_cases()) {
    CAPTURE(c.seed);
    const MergeProblem<Row> p(c);
    Gpu::same_in_batches(p.run(0, c.rows), c.rows, static_cast<int64_t>(p.row_bytes()),
                         [&](int64_t first, int64_t rows) { return p.run(first, rows); }, {1, 5, 33});
  }
}

EVERY_ROW("expert_merge: one-hot rows copy, with few and with many experts") {
  for (int32_t experts : {3, 40}) {
    MergeProblem<Row> p(MergeCase{experts, experts, 300, DType::kBF16, 110});
    p.coefficient.assign(static_cast<size_t>(experts * experts), 0.0f);
    for (int32_t e = 0; e < experts; ++e) p.coefficient[static_cast<size_t>(e * experts + e)] = 1.0f;
    const std::vector<char> merged = p.run(0, experts);
    for (int32_t e = 0; e < experts; ++e) {
      CHECK(same_bits(p.row_of(merged, e), p.base[static_cast<size_t>(e)].bytes.data(), 600));
    }
  }
}

EVERY_ROW("expert_merge: of few experts, one with coefficient zero may be infinite; padding stays zero") {
  const int64_t elements = 16 * 33;
  MergeProblem<Row> p(MergeCase{0, 2, elements, DType::kBF16, 96});
  Data data(96);
  for (int32_t e = 0; e < 3; ++e) {
    Floats values = data.floats(elements);
    for (size_t i = 15; i < values.size(); i += 16) values[i] = 0;  // a panel's padding
    if (e == 1) std::fill(values.begin(), values.begin() + 16, std::numeric_limits<float>::infinity());
    p.add_expert(values);
  }
  p.c.experts = 3;
  p.coefficient = {0, 0, 1, 0.5f, 0, 0.25f};
  const std::vector<char> merged = p.run(0, 2);
  CHECK(same_bits(p.row_of(merged, 0), p.base[2].bytes.data(), 2 * elements));
  for (int64_t i = 0; i < elements; ++i) {
    CHECK(std::isfinite(p.element(merged, 1, i)));
    if (i % 16 == 15) CHECK(same_bits(p.row_of(merged, 1) + 2 * i, "\0", 2));
  }
}

EVERY_ROW("expert_merge: more rows than one launch has coefficients for") {
  const MergeProblem<Row> p(MergeCase{16, 800, 40, DType::kBF16, 112});
  const std::vector<char> whole = p.run(0, 800);
  CHECK(same_bits(p.run(790, 10).data(), p.row_of(whole, 790), 800));
}

// Extents of a block's whole share and more: 8 to 4 and 128 to 64 experts.
EVERY_ROW("expert_merge: full width, sampled, and each row alone") {
#ifdef EEP_TEST_CUDA
  const MergeCase cases[] = {{8, 4, 3 << 20, DType::kBF16, 114}, {128, 64, 3 << 16, DType::kBF16, 115}};
#else
  const MergeCase cases[] = {{8, 4, 40000, DType::kBF16, 114}, {128, 64, 2100, DType::kBF16, 115}};
#endif
  for (const MergeCase& c : cases) {
    CAPTURE(c.seed);
    const MergeProblem<Row> p(c);
    const std::vector<char> whole = p.run(0, c.rows);
    Data data(c.seed + 900);
    Floats out;
    std::vector<Bounded> expected;
    for (int sample = 0; sample < 256; ++sample) {
      const int32_t row = static_cast<int32_t>(data.below(c.rows));
      const int64_t i = data.below(c.elements);
      out.push_back(p.element(whole, row, i));
      expected.push_back(p.value(row, i));
    }
    check_bounded(out, expected);
    CHECK(same_bits(p.run(c.rows - 1, 1).data(), p.row_of(whole, c.rows - 1), 2 * c.elements));
  }
}

TEST_CASE("gpu expert_merge: what it cannot do is refused") {
  MergeProblem<Gpu> p(MergeCase{17, 1, 8, DType::kF16, 113});
  p.coefficient[5] = 1e6f;
  CHECK(throws_with([&] { p.run(0, 1); }, "expert_merge: coefficient of row 0, expert 5 is 1000000"));
  p.dtype = DType::kF32;
  CHECK(throws_with([&] { p.run(0, 1); }, "weights are F32"));
  p.dtype = DType::kF16;
  p.c.experts = 1025;
  CHECK(throws_with([&] { p.run(0, 1); }, "at most 1024, got 1025"));
}
