// Experts over sorted slots as the kernels of expert_ffn take them, and what every kernel of that contract
// must show: values within double precision's bounds, bits that depend on the row and the expert alone.
#pragma once

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>

#include "kernels/common/error.h"
#include "kernels/dispatch.h"
#include "kernels/expert_ffn.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/gpu_matrices.h"

namespace eep::test {

using FfnOp = void (*)(const ExpertFfnArgs&, const Device&);

struct FfnResult {
  Floats h;    // [total, intermediate], sorted order
  Floats out;  // [rows * slots, hidden]
};

struct Experts {
  ExpertCase c;
  DType dtype;
  Floats x;
  std::vector<std::unique_ptr<DeviceWeights>> gate, up, down;
  std::vector<std::unique_ptr<DeviceWeights>> gate_bias, up_bias, down_bias;  // or nothing
  float limit = 0, alpha = 1;
  std::vector<ExpertMatrices> matrices;
  std::vector<int32_t> expert;  // [rows, slots]
  FfnOp op = GPU_ROW(expert_ffn);

  explicit Experts(const ExpertCase& case_) : c(case_), dtype(dtype_on_gpu(c.dtype)) {
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
    for (int32_t e = 0; e < c.experts; ++e) {
      gate_bias.push_back(weights(data, c.intermediate, 1));
      up_bias.push_back(weights(data, c.intermediate, 1));
      down_bias.push_back(weights(data, c.hidden, 1));
      ExpertMatrices& one = matrices[static_cast<size_t>(e)];
      one.gate_bias = gate_bias.back()->packed;
      one.up_bias = up_bias.back()->packed;
      one.down_bias = down_bias.back()->packed;
    }
  }
  std::unique_ptr<DeviceWeights> weights(Data& data, int64_t n, int64_t k) const {
    return std::make_unique<DeviceWeights>(data.floats(n * k), n, k, dtype);
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

  FfnResult run(const std::vector<int32_t>& order, const std::vector<int32_t>& offset, int64_t first,
                int64_t rows, int64_t shift = 0) const {
    Floats moved(static_cast<size_t>(shift));
    moved.insert(moved.end(), x.begin() + first * c.hidden, x.begin() + (first + rows) * c.hidden);
    const OnDevice<float> device_x(moved);
    const OnDevice<uint16_t> device_x16(
        rows_16bit(Floats(moved.begin() + shift, moved.end()), rows, c.hidden, dtype));
    const OnDevice<int32_t> device_order(order), device_offset(offset);
    const int64_t total = rows * c.slots;
    const OnDevice<float> activation(scratch(total), NAN);
    const OnDevice<float> out(total * c.hidden, NAN);
    ExpertFfnArgs args;
    args.x = device_x.data() + shift;
    args.x16 = device_x16.data();
    args.slots = c.slots;
    args.order = device_order.data();
    args.offset = device_offset.data();
    args.groups = c.experts;
    args.experts = matrices.data();
    args.hidden = c.hidden;
    args.intermediate = c.intermediate;
    args.limit = limit;
    args.alpha = alpha;
    args.activation = activation.data();
    args.out = out.data();
    op(args, gpu_device());
    return {hidden_rows(activation.values(), total), out.values()};
  }
  int64_t scratch(int64_t total) const {  // in floats
    return static_cast<int64_t>(expert_ffn_scratch_bytes(total, c.intermediate) + 3) / 4;
  }
  // h [total, intermediate] from the scratch of the kernel: in f32, or of wgmma in 16 bits.
  Floats hidden_rows(const Floats& scratch, int64_t total) const {
    Floats h;
    if (op != GPU_ROW(expert_ffn_sm90)) {
      h.assign(scratch.begin(), scratch.begin() + total * c.intermediate);
      return h;
    }
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
    return run(order, offset, first, rows).out;
  }
};

// The same with a bias, or without where there is none.
inline Bounded biased(const Bounded& sum, const std::vector<std::unique_ptr<DeviceWeights>>& bias,
                      size_t expert, int64_t at) {
  if (bias.empty()) return sum;
  const double value = sum.expected + static_cast<double>(bias[expert]->values[static_cast<size_t>(at)]);
  return {value, sum.bound + kUnit * (std::fabs(value) + sum.bound)};
}

// (u + 1) g sigmoid(alpha g) of held g and u, which keeps their bounds; the slope of g sigmoid(alpha g) is at
// most 1.1 as silu's is.
inline Bounded limited_value(Bounded g, Bounded u, double limit, double alpha, DType dtype) {
  g.expected = std::min(g.expected, limit);
  u.expected = std::clamp(u.expected, -limit, limit) + 1;
  u.bound += kUnit * (std::fabs(u.expected) + u.bound);
  const double s = g.expected / (1 + std::exp(-alpha * g.expected)), h = s * u.expected;
  const double s_bound = 1.1 * g.bound + 12 * kUnit * std::fabs(s) + 88 * std::exp(-87.0);
  const double bound =
      s_bound * std::fabs(u.expected) + (std::fabs(s) + s_bound) * u.bound + kUnit * std::fabs(h);
  return {h, bound + unit_16bit(dtype) * (std::fabs(h) + bound) + tiny_16bit(dtype)};
}

// silu(g) * u rounded to 16 bits, from chains off by g.bound and u.bound; silu' <= 1.1, silu's own error 9 u
// (expert_ffn_groups.h), and 88 e^-87 where it ends.
inline Bounded hidden_value(const Bounded& g, const Bounded& u, DType dtype) {
  const double s = g.expected / (1 + std::exp(-g.expected)), h = s * u.expected;
  const double s_bound = 1.1 * g.bound + 9 * kUnit * std::fabs(s) + 88 * std::exp(-87.0);
  const double bound =
      s_bound * std::fabs(u.expected) + (std::fabs(s) + s_bound) * u.bound + kUnit * std::fabs(h);
  return {h, bound + unit_16bit(dtype) * (std::fabs(h) + bound) + tiny_16bit(dtype)};
}

// The kernel of `experts` on its case against double precision.
inline void check_products(const Experts& experts) {
  const ExpertCase& c = experts.c;
  const auto [order, offset] = experts.sorted(0, c.rows);
  FfnResult result;
  same_bits_in_schedules([&, &order = order, &offset = offset] {
    result = experts.run(order, offset, 0, c.rows);
    return result.out;
  });
  CHECK(same_bits(result.h, rounded(result.h, experts.dtype)));
  const Floats x = rounded(experts.x, experts.dtype);
  std::vector<Bounded> h, out(static_cast<size_t>(c.rows * c.slots * c.hidden));
  for (size_t p = 0; p < order.size(); ++p) {
    const size_t slot = static_cast<size_t>(order[p]), e = static_cast<size_t>(experts.expert[slot]);
    const float* row = &x[slot / static_cast<size_t>(c.slots) * static_cast<size_t>(c.hidden)];
    for (int64_t j = 0; j < c.intermediate; ++j) {
      const auto product = [&](const auto& matrices, const auto& bias) {
        return biased(mma_dot(row, &matrices[e]->values[static_cast<size_t>(j * c.hidden)], c.hidden), bias,
                      e, j);
      };
      const Bounded g = product(experts.gate, experts.gate_bias), u = product(experts.up, experts.up_bias);
      h.push_back(experts.limit > 0 ? limited_value(g, u, static_cast<double>(experts.limit),
                                                    static_cast<double>(experts.alpha), experts.dtype)
                                    : hidden_value(g, u, experts.dtype));
    }
    for (int64_t i = 0; i < c.hidden; ++i) {
      out[slot * static_cast<size_t>(c.hidden) + static_cast<size_t>(i)] =
          biased(mma_dot(&result.h[p * static_cast<size_t>(c.intermediate)],
                         &experts.down[e]->values[static_cast<size_t>(i * c.intermediate)], c.intermediate),
                 experts.down_bias, e, i);
    }
  }
  check_bounded(result.h, h);
  check_bounded(result.out, out);
}

// Biases and a limit, in small and in large groups, with widths that no tile divides.
inline void check_biases(FfnOp op) {
  for (const ExpertCase& c : {kExpertCases[2], kExpertCases[3], kExpertCases[4], kExpertCases[7]}) {
    for (float limit : {0.0f, 0.75f}) {
      CAPTURE(c.seed);
      CAPTURE(limit);
      Experts experts(c);
      experts.op = op;
      experts.add_biases(limit, 1.702f);
      check_products(experts);
    }
  }
}

// The kernel of `experts`: rows in batches against the whole.
inline void check_batches(const Experts& experts) {
  const ExpertCase& c = experts.c;
  const Floats whole = experts.run(0, c.rows);
#ifdef EEP_SANITIZED  // the code is the same for all: a size on either side of the rule for tiles
  const std::vector<int64_t> batches{1, 17};
#else
  const std::vector<int64_t> batches{1, 5, 16, 17, 64};
#endif
  for (int64_t batch : batches) {
    if (batch > c.rows) break;
    const int64_t step = std::max<int64_t>(1, (c.rows - batch) / 3);
    for (int64_t first = 0; first + batch <= c.rows; first += step) {
      CAPTURE(batch);
      CAPTURE(first);
      const Floats part = experts.run(first, batch);
      const int64_t width = c.slots * c.hidden;
      CHECK(same_bits(part.data(), whole.data() + first * width, batch * width));
    }
  }
}

// A kernel's rows at odd addresses, slots left out, no order, no rows.
inline void check_edges(FfnOp op) {
  const ExpertCase c{40, 1, 2, 64, 48, DType::kBF16, 0, 78};
  Experts experts(c);
  experts.op = op;
  auto [order, offset] = experts.sorted(0, c.rows);
  const FfnResult aligned = experts.run(order, offset, 0, c.rows);
  for (int64_t shift : {1, 2, 3}) {
    CHECK(same_bits(experts.run(order, offset, 0, c.rows, shift).out, aligned.out));
  }

  // The last slot of the last group is not listed: nothing is written for it.
  const size_t left_out = static_cast<size_t>(order.back());
  std::vector<int32_t> fewer(order.begin(), order.end() - 1);
  offset.back() -= 1;
  const Floats out = experts.run(fewer, offset, 0, c.rows).out;
  for (size_t i = 0; i < out.size(); ++i) {
    const bool untouched = std::isnan(out[i]);
    CHECK(untouched == (i / static_cast<size_t>(c.hidden) == left_out));
  }

  Experts dense(c);
  dense.op = op;
  dense.matrices.resize(1);
  dense.c.experts = 1;
  const OnDevice<float> x(dense.x), activation(dense.scratch(c.rows)), y(c.rows * c.hidden);
  const OnDevice<int32_t> both(std::vector<int32_t>{0, static_cast<int32_t>(c.rows)});
  ExpertFfnArgs args;
  const OnDevice<uint16_t> x16(rows_16bit(dense.x, c.rows, c.hidden, dense.dtype));
  args.x = x.data();
  args.x16 = x16.data();
  args.offset = both.data();
  args.groups = 1;
  args.experts = dense.matrices.data();
  args.hidden = c.hidden;
  args.intermediate = c.intermediate;
  args.activation = activation.data();
  args.out = y.data();
  op(args, gpu_device());
  std::fill(dense.expert.begin(), dense.expert.end(), 0);
  CHECK(same_bits(y.values(), dense.run(0, c.rows)));

  CHECK(experts.run(0, 0).empty());
}

// Extents of released models: k of 4,096 and 14,336, natively more tiles than a grid has blocks.
#ifdef EEP_TEST_CUDA
inline constexpr ExpertCase kFullExpertCases[] = {{400, 2, 3, 4096, 1536, DType::kBF16, 0, 81},
                                                  {700, 1, 2, 1024, 14336, DType::kBF16, 0, 82},
                                                  {300, 2, 4, 2048, 768, DType::kF16, 2, 83}};
#else
inline constexpr ExpertCase kFullExpertCases[] = {{2, 1, 1, 4096, 24, DType::kBF16, 0, 81},
                                                  {2, 1, 1, 16, 14336, DType::kBF16, 0, 82}};
#endif

// 64 elements of each product against double precision; a row alone has the bits that it has among all.
inline void check_full_width(const ExpertCase& c, FfnOp op) {
  CAPTURE(c.seed);
  Experts experts(c);
  experts.op = op;
  const auto [order, offset] = experts.sorted(0, c.rows);
  const FfnResult result = experts.run(order, offset, 0, c.rows);
  const Floats x = rounded(experts.x, experts.dtype);
  Data data(c.seed + 900);
  Floats h, out;
  std::vector<Bounded> expected_h, expected_out;
  for (int sample = 0; sample < 64; ++sample) {
    const int64_t p = data.below(static_cast<int64_t>(order.size()));
    const int64_t slot = order[static_cast<size_t>(p)];
    const size_t e = static_cast<size_t>(experts.expert[static_cast<size_t>(slot)]);
    const int64_t j = data.below(c.intermediate), i = data.below(c.hidden);
    const float* const row = &x[static_cast<size_t>(slot / c.slots * c.hidden)];
    h.push_back(result.h[static_cast<size_t>(p * c.intermediate + j)]);
    expected_h.push_back(hidden_value(
        mma_dot(row, &experts.gate[e]->values[static_cast<size_t>(j * c.hidden)], c.hidden),
        mma_dot(row, &experts.up[e]->values[static_cast<size_t>(j * c.hidden)], c.hidden), experts.dtype));
    out.push_back(result.out[static_cast<size_t>(slot * c.hidden + i)]);
    expected_out.push_back(mma_dot(&result.h[static_cast<size_t>(p * c.intermediate)],
                                   &experts.down[e]->values[static_cast<size_t>(i * c.intermediate)],
                                   c.intermediate));
  }
  check_bounded(h, expected_h);
  check_bounded(out, expected_out);
  const int64_t last = c.rows - 1, width = c.slots * c.hidden;
  CHECK(same_bits(experts.run(last, 1).data(), result.out.data() + last * width, width));
}

inline void check_all_products(FfnOp op) {
  for (const ExpertCase& c : kExpertCases) {
    CAPTURE(c.seed);
    Experts experts(c);
    experts.op = op;
    check_products(experts);
  }
}

inline void check_all_batches(FfnOp op) {
  for (const ExpertCase& c : kExpertCases) {
    CAPTURE(c.seed);
    Experts experts(c);
    experts.op = op;
    check_batches(experts);
  }
}

// More than two windows of 32 groups, most of them empty.
inline void check_many_groups(FfnOp op) {
  const ExpertCase c{9, 2, 70, 16, 8, DType::kBF16, 0, 79};
  Experts experts(c);
  experts.op = op;
  const Floats whole = experts.run(0, c.rows);
  for (int64_t row = 0; row < c.rows; ++row) {
    CHECK(same_bits(experts.run(row, 1).data(), whole.data() + row * c.slots * c.hidden, c.slots * c.hidden));
  }
}

}  // namespace eep::test
