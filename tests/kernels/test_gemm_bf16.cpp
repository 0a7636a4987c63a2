// Products of precision bf16: packing into tiles, and the sums bit by bit against a scalar loop in the order
// of gemm_bf16.h, on every target of the machine, its matrix unit among them.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/common/scalar_math.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/gemm_bf16_schedule.h"
#include "kernels/dispatch.h"
#include "kernels/gemm_bf16.h"
#include "kernels/gpu/tile_schedule.h"
#include "kernels/rmsnorm.h"
#include "kernels/round_rows.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

namespace {

// A weight matrix [n, k] packed into tiles, with the values that it holds there.
struct Tiles {
  Floats values;
  Buffer buffer;
  PackedMatrix packed;

  Tiles(const Floats& source, int64_t n, int64_t k, DType dtype)
      : buffer(gemm_bf16_packed_bytes(n, k, dtype)) {
    const Typed typed(source, dtype);
    values = Typed(typed.values, DType::kBF16).values;
    packed = gemm_bf16_pack_cpu(typed.bytes.data(), n, k, k, 1, dtype, buffer.data());
  }
};

Floats rounded(const Floats& x) { return Typed(x, DType::kBF16).values; }

// Denormal numbers count as zeros, by value, so that nothing here depends on the processor's mode.
float flushed(float value) { return std::fabs(value) < 0x1p-126f ? std::copysign(0.0f, value) : value; }

// One chain of gemm_bf16.h, checked against exact products in double on the way.
float chain(const float* x, const float* w, int64_t k, int64_t begin, int64_t parity) {
  float sum = 0;
  for (int64_t i = begin + parity; i < std::min(k, begin + kBf16Step); i += 2) {
    const float a = flushed(x[i]), b = flushed(w[i]);
    const double exact = static_cast<double>(a) * static_cast<double>(b) + static_cast<double>(sum);
    sum = flushed(std::fma(a, b, sum));
    const double off = std::fabs(static_cast<double>(sum) - exact);
    REQUIRE(off <= std::fabs(exact) * 0x1.01p-24 + 0x1p-126);
  }
  return sum;
}

float scalar_sum(const float* x, const float* w, int64_t k) {
  float sum = 0;
  for (int64_t begin = 0; begin < k; begin += kBf16Step) {
    const float pair = flushed(chain(x, w, k, begin, 0) + chain(x, w, k, begin, 1));
    sum = flushed(sum + pair);
  }
  return sum;
}

Floats scalar_gemm(const Floats& x, const Floats& w, int64_t rows, int64_t n, int64_t k) {
  const Floats a = rounded(x);
  Floats out;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < n; ++column)
      out.push_back(scalar_sum(&a[static_cast<size_t>(row * k)], &w[static_cast<size_t>(column * k)], k));
  }
  return out;
}

std::vector<uint16_t> round_all(const Floats& x, int64_t rows, int64_t width, const Device& device) {
  std::vector<uint16_t> out(static_cast<size_t>(rows * row_stride_16bit(width)), 0xffff);
  round_rows_cpu({x.data(), rows, width, DType::kBF16, out.data()}, device);
  return out;
}

Floats run_gemm(const Floats& x, const Tiles& w, int64_t first, int64_t rows, const Device& device,
                bool rounded_before = false) {
  Floats out(static_cast<size_t>(rows * w.packed.n));
  const Floats part(x.begin() + first * w.packed.k, x.begin() + (first + rows) * w.packed.k);
  const std::vector<uint16_t> x16 = round_all(part, rows, w.packed.k, device);
  GemmArgs args;
  args.x = part.data();
  if (rounded_before) args.x16 = x16.data();
  args.rows = rows;
  args.w = w.packed;
  args.out = out.data();
  args.out_stride = w.packed.n;
  gemm_bf16_cpu(args, device);
  return out;
}

}  // namespace

TEST_CASE("gemm_bf16: packing rounds to nearest even, permutes, and pads with zeros") {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t n : {1, 15, 16, 17, 48}) {
      for (int64_t k : {1, 31, 32, 33, 70}) {
        CAPTURE(n);
        CAPTURE(k);
        Data data(300 + static_cast<uint64_t>(n * 64 + k));
        const Floats source = data.floats(n * k);
        const Typed typed(source, dtype);
        std::vector<char> misaligned(typed.bytes.size() + 1);
        std::memcpy(misaligned.data() + 1, typed.bytes.data(), typed.bytes.size());
        Buffer buffer(gemm_bf16_packed_bytes(n, k, dtype));
        std::memset(buffer.data(), 0xff, buffer.bytes());
        const PackedMatrix packed =
            gemm_bf16_pack_cpu(misaligned.data() + 1, n, k, k, 1, dtype, buffer.data());
        CHECK(packed.dtype == DType::kBF16);
        std::vector<uint16_t> back(static_cast<size_t>(n * k));
        gemm_bf16_unpack_cpu(packed, back.data());
        std::vector<uint16_t> expected;
        for (const float value : typed.values) expected.push_back(f32_to_bf16(value));
        CHECK(back == expected);
        const auto* const all = buffer.as<uint16_t>();
        const auto nonzero = [](uint16_t bits) { return bits != 0; };
        CHECK(std::count_if(all, all + buffer.bytes() / 2, nonzero) ==
              std::count_if(expected.begin(), expected.end(), nonzero));

        const size_t size = dtype_size(dtype);  // A transposed source [k, n] packs to the same bytes.
        std::vector<char> transposed(typed.bytes.size());
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t j = 0; j < k; ++j) {
            std::memcpy(&transposed[static_cast<size_t>(j * n + i) * size],
                        &typed.bytes[static_cast<size_t>(i * k + j) * size], size);
          }
        }
        Buffer again(gemm_bf16_packed_bytes(n, k, dtype));
        gemm_bf16_pack_cpu(transposed.data(), n, k, 1, n, dtype, again.data());
        CHECK(std::memcmp(again.data(), buffer.data(), again.bytes()) == 0);
      }
    }
  }
}

TEST_CASE("gemm_bf16: the bits of the scalar order on every target, thread count and batch") {
  for (const GemmCase& c : kGemmCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats x = data.floats(c.rows * c.k);
    const Tiles w(data.floats(c.n * c.k), c.n, c.k, c.dtype);
    const Floats out =
        same_bits_everywhere([&](const Device& device) { return run_gemm(x, w, 0, c.rows, device); });
    CHECK(same_bits(out, scalar_gemm(x, w.values, c.rows, c.n, c.k)));
    check_bounded(out, gemm(rounded(x), w.values, c.rows, c.n, c.k));
    same_bits_in_batches(out, c.rows, c.n,
                         [&](int64_t first, int64_t count) { return run_gemm(x, w, first, count, cpu(1)); });
    CHECK(same_bits(out, run_gemm(x, w, 0, c.rows, cpu(2), /*rounded_before=*/true)));
  }
}

TEST_CASE("gemm_bf16: blocks of k of every kind have the bits of the scalar order") {
  // Few rows take k whole, many in blocks; 1536 is more than any block.
  for (const int64_t rows : {1, 2, 3, 4, 12, 13, 16, 17, 32, 33, 96}) {
    CAPTURE(rows);
    Data data(500 + static_cast<uint64_t>(rows));
    const int64_t n = 150, k = rows <= 4 ? 9000 : 1300;
    const Floats x = data.floats(rows * k);
    const Tiles w(data.floats(n * k), n, k, DType::kBF16);
    const Floats out =
        same_bits_everywhere([&](const Device& device) { return run_gemm(x, w, 0, rows, device); });
    const Floats some = scalar_gemm(x, Floats(w.values.end() - 2 * k, w.values.end()), rows, 2, k);
    Floats last;
    for (int64_t row = 0; row < rows; ++row)
      last.insert(last.end(), out.begin() + row * n + n - 2, out.begin() + (row + 1) * n);
    CHECK(same_bits(last, some));
  }
}

TEST_CASE("gemm_bf16: any scale, down to sums that are denormal and so zero") {
  Data data(7);
  for (const int exponent : {-76, -70, -64, -63, -61, -20, 0, 20}) {
    CAPTURE(exponent);
    const int64_t rows = 18, n = 40, k = 130;
    Floats x = data.floats(rows * k), w = data.floats(n * k);
    for (float& value : x) value = std::ldexp(value, exponent);
    for (float& value : w) value = std::ldexp(value, data.below(3) == 0 ? exponent - 10 : exponent);
    const Tiles tiles(w, n, k, DType::kF32);
    const Floats out =
        same_bits_everywhere([&](const Device& device) { return run_gemm(x, tiles, 0, rows, device); });
    CHECK(same_bits(out, scalar_gemm(x, tiles.values, rows, n, k)));
    const bool tiny = exponent <= -63;  // each product is below the least normal number
    CHECK(std::all_of(out.begin(), out.end(), [](float value) { return value == 0; }) == tiny);
  }
  const float least = 0x1p-126f;  // a denormal number that is read is a zero, even times a large one
  const Tiles large(Floats{0x1p100f}, 1, 1, DType::kF32);
  CHECK(run_gemm({least / 2}, large, 0, 1, cpu(1))[0] == 0.0f);
  CHECK(run_gemm({least}, large, 0, 1, cpu(1))[0] == 0x1p-26f);
}

TEST_CASE(
    "gemm_bf16: gathered rows, bias, old output and a wide stride, denormal numbers in the epilogue kept") {
  const int64_t rows = 45, x_rows = 50, n = 37, k = 65, stride = n + 5;
  Data data(8);
  const Floats x = data.floats(x_rows * k), bias = data.floats(n);
  Floats old = data.floats(rows * n);
  const Tiles w(data.floats(n * k), n, k, DType::kBF16);
  std::vector<int32_t> index;
  Floats gathered;
  for (int64_t row = 0; row < rows; ++row) {
    index.push_back(static_cast<int32_t>(data.below(x_rows)));
    gathered.insert(gathered.end(), x.begin() + index.back() * k, x.begin() + (index.back() + 1) * k);
  }
  for (const bool rounded_before : {false, true}) {
    const Floats wide = same_bits_everywhere([&](const Device& device) {
      Floats out(static_cast<size_t>(rows * stride), 7.0f);
      for (int64_t row = 0; row < rows; ++row)
        std::copy_n(old.begin() + row * n, n, out.begin() + row * stride);
      const std::vector<uint16_t> x16 = round_all(x, x_rows, k, device);
      GemmArgs args;
      args.x = x.data();
      if (rounded_before) args.x16 = x16.data();
      args.x_index = index.data();
      args.rows = rows;
      args.w = w.packed;
      args.bias = bias.data();
      args.out = out.data();
      args.out_stride = stride;
      args.accumulate = true;
      gemm_bf16_cpu(args, device);
      return out;
    });
    const Floats sums = scalar_gemm(gathered, w.values, rows, n, k);
    Floats expected(static_cast<size_t>(rows * stride), 7.0f);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < n; ++column) {
        const auto at = static_cast<size_t>(row * n + column);
        expected[static_cast<size_t>(row * stride + column)] =
            (sums[at] + bias[static_cast<size_t>(column)]) + old[at];
      }
    }
    CHECK(same_bits(wide, expected));
  }
  const float denormal = 0x1p-140f;
  const Tiles zero(Floats{0.0f}, 1, 1, DType::kF32);
  float out = denormal;
  const float x_one = 1;
  GemmArgs args;
  args.x = &x_one;
  args.rows = 1;
  args.w = zero.packed;
  args.out = &out;
  args.out_stride = 1;
  args.accumulate = true;
  gemm_bf16_cpu(args, cpu(1));
  CHECK(out == denormal);
  volatile float half = denormal;  // the thread's mode is what it was
  CHECK(half * 0.5f == 0x1p-141f);
  CHECK(run_gemm({}, w, 0, 0, cpu(2)).empty());
}

namespace {

// biased: with biases and a limit that many values reach
void check_expert_ffn(const ExpertCase& c, bool biased) {
  Data data(c.seed);
  const Floats x = data.floats(c.rows * c.hidden);
  std::vector<Tiles> gate, up, down;
  std::vector<ExpertMatrices> matrices;
  for (int32_t e = 0; e < c.experts; ++e) {
    gate.emplace_back(data.floats(c.intermediate * c.hidden), c.intermediate, c.hidden, c.dtype);
    up.emplace_back(data.floats(c.intermediate * c.hidden), c.intermediate, c.hidden, c.dtype);
    down.emplace_back(data.floats(c.hidden * c.intermediate), c.hidden, c.intermediate, c.dtype);
    matrices.push_back({gate.back().packed, up.back().packed, down.back().packed});
  }
  std::vector<Tiles> gate_bias, up_bias, down_bias;
  for (int32_t e = 0; biased && e < c.experts; ++e) {
    gate_bias.emplace_back(data.floats(c.intermediate), c.intermediate, 1, c.dtype);
    up_bias.emplace_back(data.floats(c.intermediate), c.intermediate, 1, c.dtype);
    down_bias.emplace_back(data.floats(c.hidden), c.hidden, 1, c.dtype);
    ExpertMatrices& one = matrices[static_cast<size_t>(e)];
    one.gate_bias = gate_bias.back().packed;
    one.up_bias = up_bias.back().packed;
    one.down_bias = down_bias.back().packed;
  }
  const float limit = biased ? 0.75f : 0.0f, alpha = biased ? 1.702f : 1.0f;
  const int64_t total = c.rows * c.slots;
  std::vector<int32_t> expert, identity(static_cast<size_t>(c.experts));
  std::iota(identity.begin(), identity.end(), 0);
  for (int64_t slot = 0; slot < total; ++slot)
    expert.push_back(c.skew == 1 ? 1 % c.experts : static_cast<int32_t>(data.below(c.experts)));
  std::vector<int32_t> offset(static_cast<size_t>(c.experts + 1)), order(static_cast<size_t>(total));
  DispatchArgs dispatch;
  dispatch.expert = expert.data();
  dispatch.rows = c.rows;
  dispatch.slots = c.slots;
  dispatch.group_of = identity.data();
  dispatch.group_stride = dispatch.groups = c.experts;
  dispatch.offset = offset.data();
  dispatch.order = order.data();
  dispatch_cpu(dispatch, cpu(1));
  const int64_t stride = row_stride_16bit(c.intermediate);
  std::vector<uint16_t> h;  // [total, stride] in sorted order
  for (const bool rounded_before : {false, true}) {
    const Floats out = same_bits_everywhere([&](const Device& device) {
      std::vector<float> activation(expert_ffn_scratch_bytes(total, c.intermediate) / sizeof(float) + 1);
      Floats y(static_cast<size_t>(total * c.hidden));
      const std::vector<uint16_t> x16 = round_all(x, c.rows, c.hidden, device);
      ExpertFfnArgs args;
      args.x = x.data();
      if (rounded_before) args.x16 = x16.data();
      args.slots = c.slots;
      args.order = order.data();
      args.offset = offset.data();
      args.groups = c.experts;
      args.experts = matrices.data();
      args.hidden = c.hidden;
      args.intermediate = c.intermediate;
      args.limit = limit;
      args.alpha = alpha;
      args.activation = activation.data();
      args.out = y.data();
      expert_ffn_bf16_cpu(args, device);
      h.resize(static_cast<size_t>(total * stride));
      std::memcpy(h.data(), activation.data(), h.size() * sizeof(uint16_t));
      return y;
    });
    for (int64_t position = 0; position < total; ++position) {
      const int64_t slot = order[static_cast<size_t>(position)];
      const auto e = static_cast<size_t>(expert[static_cast<size_t>(slot)]);
      const auto from = x.begin() + slot / c.slots * c.hidden;
      const Floats one(from, from + c.hidden);
      const Floats g = run_gemm(one, gate[e], 0, 1, cpu(1)), u = run_gemm(one, up[e], 0, 1, cpu(1));
      Floats row;
      for (int64_t j = 0; j < c.intermediate; ++j) {
        const auto at = static_cast<size_t>(j);
        row.push_back(bf16_to_f32(h[static_cast<size_t>(position * stride + j)]));
        // silu is within 8 units and its product within one, then one rounding to bf16; with biases the sums
        // and u + 1 are the op's own f32 numbers, and alpha's product moves the sigmoid by a unit of its
        // argument.
        float gate_sum = g[at], up_sum = u[at];
        if (biased) {
          gate_sum = std::min(gate_sum + gate_bias[e].values[at], limit);
          up_sum = std::clamp(up_sum + up_bias[e].values[at], -limit, limit) + 1.0f;
        }
        const double scaled = static_cast<double>(alpha) * static_cast<double>(gate_sum);
        const double s = static_cast<double>(gate_sum) / (1 + std::exp(-scaled));
        const double exact = s * static_cast<double>(up_sum);
        CHECK(std::fabs(static_cast<double>(row.back()) - exact) <=
              std::fabs(exact) * (0x1p-8 + (12 + std::fabs(scaled)) * kUnit) + kTiny);
      }
      Floats y = scalar_gemm(row, down[e].values, 1, c.hidden, c.intermediate);
      for (size_t i = 0; biased && i < y.size(); ++i) y[i] += down_bias[e].values[i];
      CHECK(same_bits(y.data(), out.data() + slot * c.hidden, c.hidden));
    }
  }
}

}  // namespace

TEST_CASE("expert_ffn_bf16: the bits of its two products with h rounded between them") {
  for (const ExpertCase& c : kExpertCases) {
    for (const bool biased : {false, true}) {
      CAPTURE(c.seed);
      CAPTURE(biased);
      check_expert_ffn(c, biased);
    }
  }
}

TEST_CASE("score_bf16: log-softmax over the products' logits, same bits on every target") {
  for (const ScoreCase& c : kScoreCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats x = data.floats(c.count * c.hidden);
    const Tiles w(data.floats(c.vocabulary * c.hidden), c.vocabulary, c.hidden, c.dtype);
    std::vector<int32_t> target;
    for (int64_t i = 0; i < c.count; ++i) target.push_back(static_cast<int32_t>(data.below(c.vocabulary)));
    std::vector<TokenScore> scores[2];
    for (const bool rounded_before : {false, true}) {
      scores[rounded_before ? 1 : 0] = same_bits_everywhere([&](const Device& device) {
        std::vector<TokenScore> out(static_cast<size_t>(c.count));
        const std::vector<uint16_t> x16 = round_all(x, c.count, c.hidden, device);
        ScoreArgs args;
        args.x = x.data();
        if (rounded_before) args.x16 = x16.data();
        args.target = target.data();
        args.count = c.count;
        args.vocabulary = w.packed;
        args.out = out.data();
        score_bf16_cpu(args, device);
        return out;
      });
    }
    CHECK(same_bits(scores[0], scores[1]));
    const Floats exact = rounded(x), logits = run_gemm(x, w, 0, c.count, cpu(1));
    for (int64_t i = 0; i < c.count; ++i) {
      const auto at = static_cast<size_t>(i);
      const ScoreReference expected =
          score(&exact[static_cast<size_t>(i * c.hidden)], w.values, c.vocabulary, c.hidden, target[at]);
      CHECK(std::fabs(static_cast<double>(scores[0][at].log_probability) -
                      expected.log_probability.expected) <= expected.log_probability.bound);
      const auto row = logits.begin() + i * c.vocabulary;
      CHECK(scores[0][at].argmax == std::max_element(row, row + c.vocabulary) - row);
    }
  }
}

TEST_CASE("round_rows and rmsnorm on the CPU round each value to nearest even, zeros up to the stride") {
  for (const RowsCase& c : kRowsCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    Floats x = data.floats(c.rows * c.width, 1e3f);
    x[0] = 0x1.01p0f;  // a tie
    const int64_t stride = row_stride_16bit(c.width);
    const auto expect = [&](const std::vector<uint16_t>& got, const Floats& values) {
      int64_t wrong = 0;
      for (int64_t row = 0; row < c.rows; ++row) {
        for (int64_t i = 0; i < stride; ++i) {
          const uint16_t expected =
              i < c.width ? f32_to_bf16(values[static_cast<size_t>(row * c.width + i)]) : uint16_t{0};
          wrong += got[static_cast<size_t>(row * stride + i)] != expected;
        }
      }
      CHECK(wrong == 0);
    };
    expect(same_bits_everywhere([&](const Device& device) { return round_all(x, c.rows, c.width, device); }),
           x);
    const Floats weight = data.floats(c.width);
    RmsNormArgs norm{x.data(), c.rows, c.width, weight.data(), 1e-5f};
    Floats whole(x.size());
    norm.out = whole.data();
    rmsnorm_cpu(norm, cpu(1));
    for (const bool both : {true, false}) {
      Floats again(x.size());
      const auto out16 = same_bits_everywhere([&](const Device& device) {
        std::vector<uint16_t> out(static_cast<size_t>(c.rows * stride), 0xffff);
        norm.out = both ? again.data() : nullptr;
        norm.out16 = out.data();
        rmsnorm_cpu(norm, device);
        return out;
      });
      expect(out16, whole);
      if (both) CHECK(same_bits(again, whole));
    }
  }
}

TEST_CASE("amx: tiles give the bits of the scalar order (skipped aloud without the matrix unit)") {
  if (!amx_found()) {
    MESSAGE("skipped: this machine has no AMX");
    CHECK(!amx_in_use());
    set_amx(true);
    CHECK(!amx_in_use());
    return;
  }
  Data data(9);
  for (int trial = 0; trial < 200; ++trial) {
    const int64_t rows = 1 + data.below(96), n = 1 + data.below(160), k = 1 + data.below(700);
    CAPTURE(rows);
    CAPTURE(n);
    CAPTURE(k);
    Floats x = data.floats(rows * k);
    const int exponent = trial % 20 == 0 ? -64 : static_cast<int>(data.below(40)) - 20;
    for (float& value : x) value = std::ldexp(value, exponent);
    const Tiles w(data.floats(n * k, trial % 20 == 0 ? 0x1p-62f : 1.0f), n, k, DType::kBF16);
    set_amx(true);
    const Floats tiles = run_gemm(x, w, 0, rows, cpu(1));
    set_amx(false);
    CHECK(same_bits(tiles, run_gemm(x, w, 0, rows, cpu(1))));
    set_amx(true);
  }
}
