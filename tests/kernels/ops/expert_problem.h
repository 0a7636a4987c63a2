// Experts over sorted slots as the rows of the op table take them, and what each must show: values within
// double precision's bounds, bits that depend on the row and the expert alone.
#pragma once

#include <numeric>

#include "tests/kernels/ops/op_rows.h"

namespace eep::test {

struct FfnResult {
  Floats h;    // [total, intermediate], sorted order
  Floats out;  // [rows * slots, hidden]
};

template <class Row>
struct Experts {
  using Matrices = std::vector<std::unique_ptr<Matrix<Row>>>;
  ExpertCase c;
  DType dtype;
  Floats x;
  Matrices gate, up, down;
  Matrices gate_bias, up_bias, down_bias;  // or nothing
  float limit = 0, alpha = 1;
  std::vector<ExpertMatrices> matrices;
  std::vector<int32_t> expert;  // [rows, slots]

  explicit Experts(const ExpertCase& case_) : c(case_), dtype(Row::dtype(c.dtype)) {
    Data data(c.seed);
    x = data.floats(c.rows * c.hidden);
    for (int32_t e = 0; e < c.experts; ++e) {
      gate.push_back(weights(data, c.intermediate, c.hidden));
      up.push_back(weights(data, c.intermediate, c.hidden));
      down.push_back(weights(data, c.hidden, c.intermediate));
      matrices.push_back({gate.back()->packed, up.back()->packed, down.back()->packed});
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
      gate_bias.push_back(weights(data, c.intermediate, 1));
      up_bias.push_back(weights(data, c.intermediate, 1));
      down_bias.push_back(weights(data, c.hidden, 1));
      one.gate_bias = gate_bias.back()->packed;
      one.up_bias = up_bias.back()->packed;
      one.down_bias = down_bias.back()->packed;
    }
  }
  std::unique_ptr<Matrix<Row>> weights(Data& data, int64_t n, int64_t k) const {
    return std::make_unique<Matrix<Row>>(data.floats(n * k), n, k, dtype);
  }

  // Slots of rows [first, first + rows), sorted by expert.
  std::pair<std::vector<int32_t>, std::vector<int32_t>> sorted(int64_t first, int64_t rows) const {
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
    dispatch_cpu(dispatch, cpu(1));
    return {order, offset};
  }

  // order: or null, as in the op's arguments
  FfnResult run(const std::vector<int32_t>* order, const std::vector<int32_t>& offset, int64_t first,
                int64_t rows, int64_t shift = 0, const Device& device = Row::device()) const {
    const std::vector<int32_t> none;
    const Input<Row, float> in(x, first * c.hidden, rows * c.hidden, shift);
    const Rounded<Row> x16(x, first, rows, c.hidden, dtype);
    const Input<Row, int32_t> order_in(order != nullptr ? *order : none), offset_in(offset);
    const int64_t total = rows * c.slots;
    const Output<Row, float> activation(
        static_cast<int64_t>(expert_ffn_scratch_bytes(total, c.intermediate) + 3) / 4, NAN);
    const Output<Row, float> out(total * c.hidden, NAN);
    ExpertFfnArgs args;
    args.x = in.data();
    args.x16 = x16.data();
    args.slots = c.slots;
    args.order = order != nullptr ? order_in.data() : nullptr;
    args.offset = offset_in.data();
    args.groups = c.experts;
    args.experts = matrices.data();
    args.hidden = c.hidden;
    args.intermediate = c.intermediate;
    args.limit = limit;
    args.alpha = alpha;
    args.activation = activation.data();
    args.out = out.data();
    call(Row(), args, device);
    return {hidden_rows(activation.values(), total), out.values()};
  }
  // h [total, intermediate] from the scratch of the kernel: in f32, or of wgmma in 16 bits.
  Floats hidden_rows(const Floats& scratch, int64_t total) const {
    if (!std::is_same_v<Row, GpuSm90>) return slice(scratch, 0, total * c.intermediate);
    Floats h;
    const int64_t stride = row_stride_16bit(c.intermediate);
    for (int64_t row = 0; row < total; ++row) {
      for (int64_t column = 0; column < c.intermediate; ++column) {
        uint16_t bits;
        std::memcpy(&bits, reinterpret_cast<const char*>(scratch.data()) + 2 * (row * stride + column), 2);
        h.push_back(widen(bits, dtype));
      }
    }
    return h;
  }
  Floats run(int64_t first, int64_t rows) const {
    const auto [order, offset] = sorted(first, rows);
    return run(&order, offset, first, rows).out;
  }

  // x W^T of element `at` of one matrix, with its bias where there is one.
  Bounded product(const float* row, const Matrices& matrix, const Matrices& bias, size_t e, int64_t at,
                  int64_t k) const {
    const Bounded sum = Row::dot(row, &matrix[e]->values[static_cast<size_t>(at * k)], k);
    if (bias.empty()) return sum;
    const double value = sum.expected + static_cast<double>(bias[e]->values[static_cast<size_t>(at)]);
    return {value, sum.bound + kUnit * (std::fabs(value) + sum.bound)};
  }
  // silu(g) * u, or with a limit (u + 1) g sigmoid(alpha g) of held g and u, which keep their bounds; the
  // slope of g sigmoid(alpha g) is at most 1.1 as silu's is, whose own error is the row's.
  Bounded hidden_value(const float* row, size_t e, int64_t j) const {
    Bounded g = product(row, gate, gate_bias, e, j, c.hidden), u = product(row, up, up_bias, e, j, c.hidden);
    double slope = 1, error = Row::kSiluError;
    if (limit > 0) {
      g.expected = std::min(g.expected, static_cast<double>(limit));
      u.expected = std::clamp(u.expected, -static_cast<double>(limit), static_cast<double>(limit)) + 1;
      u.bound += kUnit * (std::fabs(u.expected) + u.bound);
      slope = static_cast<double>(alpha);
      error = 12 * kUnit;
    }
    const double s = g.expected / (1 + std::exp(-slope * g.expected)), h = s * u.expected;
    const double s_bound = 1.1 * g.bound + error * std::fabs(s) + Row::silu_end();
    const double bound =
        s_bound * std::fabs(u.expected) + (std::fabs(s) + s_bound) * u.bound + kUnit * std::fabs(h);
    return {h, bound + Row::rounding(std::fabs(h) + bound, dtype)};
  }
};

// Both products against double precision, the second from the h that the first left.
template <class Row>
void check_products(const Experts<Row>& experts) {
  const ExpertCase& c = experts.c;
  const auto sorted = experts.sorted(0, c.rows);
  const std::vector<int32_t>& order = sorted.first;
  FfnResult result;
  Row::same_bits([&](const Device& device) {
    result = experts.run(&order, sorted.second, 0, c.rows, 0, device);
    return result.out;
  });
  CHECK(same_bits(result.h, Row::as_read(result.h, experts.dtype)));
  const Floats x = Row::as_read(experts.x, experts.dtype);
  std::vector<Bounded> h, out(static_cast<size_t>(c.rows * c.slots * c.hidden));
  for (size_t p = 0; p < order.size(); ++p) {
    const size_t slot = static_cast<size_t>(order[p]), e = static_cast<size_t>(experts.expert[slot]);
    const float* row = &x[slot / static_cast<size_t>(c.slots) * static_cast<size_t>(c.hidden)];
    for (int64_t j = 0; j < c.intermediate; ++j) h.push_back(experts.hidden_value(row, e, j));
    for (int64_t i = 0; i < c.hidden; ++i) {
      out[slot * static_cast<size_t>(c.hidden) + static_cast<size_t>(i)] =
          experts.product(&result.h[p * static_cast<size_t>(c.intermediate)], experts.down, experts.down_bias,
                          e, i, c.intermediate);
    }
  }
  check_bounded(result.h, h);
  check_bounded(result.out, out);
}

template <class Row>
void check_batches(const Experts<Row>& experts) {
  const ExpertCase& c = experts.c;
#ifdef EEP_SANITIZED  // the code is the same for all: a size on either side of the rule for tiles
  const std::vector<int64_t> sizes{1, 17};
#else
  const std::vector<int64_t> sizes{1, 5, 16, 17, 64};
#endif
  Row::same_in_batches(
      experts.run(0, c.rows), c.rows, c.slots * c.hidden,
      [&](int64_t first, int64_t rows) { return experts.run(first, rows); }, sizes);
}

template <class Row>
void check_all_products() {
  for (const ExpertCase& c : kExpertCases) {
    CAPTURE(c.seed);
    check_products(Experts<Row>(c));
  }
}

template <class Row>
void check_all_batches() {
  for (const ExpertCase& c : kExpertCases) {
    CAPTURE(c.seed);
    check_batches(Experts<Row>(c));
  }
}

// Biases and a limit, in small and in large groups, with widths that no tile divides.
template <class Row>
void check_biases() {
  for (size_t i : {0, 2, 3, 4, 5, 7}) {
    for (float limit : {0.0f, 0.75f}) {
      CAPTURE(i);
      CAPTURE(limit);
      Experts<Row> experts(kExpertCases[i]);
      experts.add_biases(limit, 1.702f);
      check_products(experts);
      if (Row::kHost) check_batches(experts);
    }
  }
}

// A dense FFN is one group without an order.
template <class Row>
void check_dense(ExpertCase c) {
  c.slots = c.experts = 1;
  const Experts<Row> dense(c);
  const Floats out = Row::same_bits([&](const Device& device) {
    return dense.run(nullptr, {0, static_cast<int32_t>(c.rows)}, 0, c.rows, 0, device).out;
  });
  CHECK(same_bits(out, dense.run(0, c.rows)));
}

// Rows at odd addresses, slots left out, no order, no rows.
template <class Row>
void check_edges() {
  const ExpertCase c{40, 1, 2, 64, 48, DType::kBF16, 0, 78};
  const Experts<Row> experts(c);
  auto [order, offset] = experts.sorted(0, c.rows);
  const FfnResult aligned = experts.run(&order, offset, 0, c.rows);
  for (int64_t shift : {1, 2, 3}) {
    CHECK(same_bits(experts.run(&order, offset, 0, c.rows, shift).out, aligned.out));
  }

  // The last slot of the last group is not listed: nothing is written for it.
  const size_t left_out = static_cast<size_t>(order.back());
  order.pop_back();
  offset.back() -= 1;
  const Floats out = experts.run(&order, offset, 0, c.rows).out;
  for (size_t i = 0; i < out.size(); ++i) {
    const bool untouched = std::isnan(out[i]);
    CHECK(untouched == (i / static_cast<size_t>(c.hidden) == left_out));
  }

  check_dense<Row>(c);
  check_dense<Row>(kExpertCases[2]);
  CHECK(experts.run(0, 0).empty());
}

// More than two windows of 32 groups, most of them empty.
template <class Row>
void check_many_groups() {
  const ExpertCase c{9, 2, 70, 16, 8, DType::kBF16, 0, 79};
  const Experts<Row> experts(c);
  const Floats whole = experts.run(0, c.rows);
  for (int64_t row = 0; row < c.rows; ++row) {
    CHECK(same_bits(experts.run(row, 1).data(), whole.data() + row * c.slots * c.hidden, c.slots * c.hidden));
  }
}

// Extents of released models: k of 4,096 and 14,336, natively more tiles than a grid has blocks. 64 elements
// of each product against double precision; a row alone has the bits that it has among all.
#ifdef EEP_TEST_CUDA
inline constexpr ExpertCase kFullExpertCases[] = {{400, 2, 3, 4096, 1536, DType::kBF16, 0, 81},
                                                  {700, 1, 2, 1024, 14336, DType::kBF16, 0, 82},
                                                  {300, 2, 4, 2048, 768, DType::kF16, 2, 83}};
#else
inline constexpr ExpertCase kFullExpertCases[] = {{2, 1, 1, 4096, 24, DType::kBF16, 0, 81},
                                                  {2, 1, 1, 16, 14336, DType::kBF16, 0, 82}};
#endif
template <class Row>
void check_full_width() {
  for (const ExpertCase& c : kFullExpertCases) {
    CAPTURE(c.seed);
    const Experts<Row> experts(c);
    const auto [order, offset] = experts.sorted(0, c.rows);
    const FfnResult result = experts.run(&order, offset, 0, c.rows);
    const Floats x = Row::as_read(experts.x, experts.dtype);
    Data data(c.seed + 900);
    Floats h, out;
    std::vector<Bounded> expected_h, expected_out;
    for (int sample = 0; sample < 64; ++sample) {
      const int64_t p = data.below(static_cast<int64_t>(order.size()));
      const int64_t slot = order[static_cast<size_t>(p)];
      const size_t e = static_cast<size_t>(experts.expert[static_cast<size_t>(slot)]);
      const int64_t j = data.below(c.intermediate), i = data.below(c.hidden);
      h.push_back(result.h[static_cast<size_t>(p * c.intermediate + j)]);
      expected_h.push_back(experts.hidden_value(&x[static_cast<size_t>(slot / c.slots * c.hidden)], e, j));
      out.push_back(result.out[static_cast<size_t>(slot * c.hidden + i)]);
      expected_out.push_back(experts.product(&result.h[static_cast<size_t>(p * c.intermediate)], experts.down,
                                             {}, e, i, c.intermediate));
    }
    check_bounded(h, expected_h);
    check_bounded(out, expected_out);
    const int64_t last = c.rows - 1, width = c.slots * c.hidden;
    CHECK(same_bits(experts.run(last, 1).data(), result.out.data() + last * width, width));
  }
}

}  // namespace eep::test
