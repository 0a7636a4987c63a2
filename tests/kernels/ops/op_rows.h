// The rows of the op table as the tests of the ops see them: what an op is called there, where its memory
// lies, how weights are packed and products round, and what must not move its bits. An op's problem stands
// once, a template over the row; EVERY_ROW makes a case of each row out of it.
#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/attention.h"
#include "kernels/clamp.h"
#include "kernels/combine.h"
#include "kernels/dispatch.h"
#include "kernels/embed.h"
#include "kernels/expert_ffn.h"
#include "kernels/expert_merge.h"
#include "kernels/expert_stats.h"
#include "kernels/kv_scatter.h"
#include "kernels/noise.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/round_rows.h"
#include "kernels/router.h"
#include "kernels/score.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/gpu_matrices.h"

namespace eep::test {

// Values [first, first + count) behind `shift` others.
template <typename T>
std::vector<T> slice(const std::vector<T>& all, int64_t first, int64_t count, int64_t shift = 0) {
  std::vector<T> part(static_cast<size_t>(shift + count));
  std::copy_n(all.begin() + first, count, part.begin() + shift);
  return part;
}

// Memory of an op on the host, as OnDevice is on a device.
template <typename T>
class OnHost {
 public:
  explicit OnHost(std::vector<T> values) : values_(std::move(values)) {}
  explicit OnHost(int64_t n, T value = {}) : values_(static_cast<size_t>(n), value) {}
  T* data() const { return values_.data(); }
  std::vector<T> values() const { return values_; }

 private:
  mutable std::vector<T> values_;
};

// Values [first, first + count) of an input, `shift` elements behind where memory begins. On the host they
// stay where they lie among all, which must outlive this; a device has a copy of these alone.
template <typename T>
class HostInput {
 public:
  explicit HostInput(const std::vector<T>& all) : data_(all.data()) {}
  HostInput(const std::vector<T>& all, int64_t first, int64_t count, int64_t shift = 0)
      : data_(all.data() + first) {
    if (shift == 0) return;
    moved_ = slice(all, first, count, shift);
    data_ = moved_.data() + shift;
  }
  explicit HostInput(std::vector<T>&&) = delete;
  HostInput(std::vector<T>&&, int64_t, int64_t, int64_t = 0) = delete;
  HostInput(const HostInput&) = delete;
  HostInput& operator=(const HostInput&) = delete;
  const T* data() const { return data_; }

 private:
  std::vector<T> moved_;
  const T* data_;
};
template <typename T>
class DeviceInput {
 public:
  explicit DeviceInput(const std::vector<T>& all) : memory_(all) {}
  DeviceInput(const std::vector<T>& all, int64_t first, int64_t count, int64_t shift = 0)
      : shift_(shift), memory_(slice(all, first, count, shift)) {}
  const T* data() const { return memory_.data() + shift_; }

 private:
  int64_t shift_ = 0;
  OnDevice<T> memory_;
};

struct Cpu {
  static constexpr bool kHost = true;
  template <typename T>
  using In = HostInput<T>;
  template <typename T>
  using Out = OnHost<T>;
  using Matrix = Weights;

  static Device device() { return cpu(1); }
  static DType dtype(DType dtype) { return dtype; }    // that weights of a checkpoint's dtype have
  static constexpr DType kRoundTo[] = {DType::kBF16};  // what round_rows knows

  // Activations as products read them, a chain of such a product, and what h of expert_ffn is rounded by.
  static Floats as_read(const Floats& x, DType) { return x; }
  static Bounded dot(const float* a, const float* b, int64_t n) { return test::dot(a, b, n); }
  static double rounding(double, DType) { return kTiny; }
  static constexpr double kSiluError = 8 * kUnit;
  static double silu_end() { return 0; }

  // run(device) -> vector: whatever may differ between two runs of a machine.
  template <typename Run>
  static auto same_bits(const Run& run) {
    return same_bits_everywhere(run);
  }
  // run(first, count) -> that many rows of `width` values, with the bits that they have in `whole`: batches
  // of support.h at every position.
  template <typename T, typename Run>
  static void same_in_batches(const std::vector<T>& whole, int64_t rows, int64_t width, const Run& run,
                              const std::vector<int64_t>& = {}, int64_t = 0) {
    same_bits_in_batches(whole, rows, width, run);
  }
};

struct Gpu {
  static constexpr bool kHost = false;
  template <typename T>
  using In = DeviceInput<T>;
  template <typename T>
  using Out = OnDevice<T>;
  using Matrix = DeviceWeights;

  static Device device() { return gpu_device(); }
  static DType dtype(DType dtype) { return dtype_on_gpu(dtype); }
  static constexpr DType kRoundTo[] = {DType::kBF16, DType::kF16};

  static Floats as_read(const Floats& x, DType dtype) { return rounded(x, dtype); }
  static Bounded dot(const float* a, const float* b, int64_t n) { return mma_dot(a, b, n); }
  static double rounding(double value, DType dtype) { return unit_16bit(dtype) * value + tiny_16bit(dtype); }
  static constexpr double kSiluError = 9 * kUnit;            // expert_ffn_groups.h
  static double silu_end() { return 88 * std::exp(-87.0); }  // where the exponential ends

  template <typename Run>
  static auto same_bits(const Run& run) {
    return same_bits_in_schedules([&] { return run(device()); });
  }
  // The host executor is slow: batches of `sizes` at about `places` positions each.
  template <typename T, typename Run>
  static void same_in_batches(const std::vector<T>& whole, int64_t rows, int64_t width, const Run& run,
                              const std::vector<int64_t>& sizes = {1, 7, 16, 17, 64}, int64_t places = 3) {
    for (int64_t batch : sizes) {
      if (batch > rows) break;
      for (int64_t first = 0; first + batch <= rows; first += std::max<int64_t>(1, (rows - batch) / places)) {
        CAPTURE(batch);
        CAPTURE(first);
        CHECK(test::same_bits(run(first, batch).data(), whole.data() + first * width, batch * width));
      }
    }
  }
};

// The row of a GPU with its products by wgmma.
struct GpuSm90 : Gpu {};

template <class Row, typename T>
using Input = typename Row::template In<T>;
template <class Row, typename T>
using Output = typename Row::template Out<T>;
template <class Row>
using Matrix = typename Row::Matrix;

// Rows [first, first + rows) of x as round_rows makes them, where products of the row of the table read them.
template <class Row>
class Rounded {
 public:
  Rounded(const Floats& x, int64_t first, int64_t rows, int64_t width, DType dtype) {
    if constexpr (!Row::kHost) {
      memory_ = std::make_unique<OnDevice<uint16_t>>(
          rows_16bit(slice(x, first * width, rows * width), rows, width, dtype));
    }
  }
  const uint16_t* data() const { return memory_ ? memory_->data() : nullptr; }

 private:
  std::unique_ptr<OnDevice<uint16_t>> memory_;
};

// The table: an op is the function of its arguments' type.
#define EEP_OP(op, Args)                                                                    \
  inline void call(Cpu, const Args& args, const Device& device) { op##_cpu(args, device); } \
  inline void call(Gpu, const Args& args, const Device& device) { GPU_ROW(op)(args, device); }
EEP_OP(attention, AttentionArgs)
EEP_OP(clamp, ClampArgs)
EEP_OP(combine, CombineArgs)
EEP_OP(dispatch, DispatchArgs)
EEP_OP(embed, EmbedArgs)
EEP_OP(expert_ffn, ExpertFfnArgs)
EEP_OP(expert_merge, ExpertMergeArgs)
EEP_OP(expert_stats, ExpertStatsArgs)
EEP_OP(gemm, GemmArgs)
EEP_OP(kv_scatter, KvScatterArgs)
EEP_OP(noise, NoiseArgs)
EEP_OP(rmsnorm, RmsNormArgs)
EEP_OP(rope, RopeArgs)
EEP_OP(round_rows, RoundRowsArgs)
EEP_OP(router, RouterArgs)
EEP_OP(score, ScoreArgs)
#undef EEP_OP
inline void call(GpuSm90, const ExpertFfnArgs& args, const Device& device) {
  GPU_ROW(expert_ffn_sm90)(args, device);
}
inline void call(GpuSm90, const GemmArgs& args, const Device& device) { GPU_ROW(gemm_sm90)(args, device); }

}  // namespace eep::test

// A case NAME of the CPU and a case "gpu NAME" of the GPU's kernels; `Row` in the body is the row.
#define EVERY_ROW_BODY(body, name)        \
  template <class Row>                    \
  static void body();                     \
  TEST_CASE(name) { body<Cpu>(); }        \
  TEST_CASE("gpu " name) { body<Gpu>(); } \
  template <class Row>                    \
  static void body()
#define EVERY_ROW_LINE(line, name) EVERY_ROW_BODY(every_row_##line, name)
#define EVERY_ROW_AT(line, name) EVERY_ROW_LINE(line, name)
#define EVERY_ROW(name) EVERY_ROW_AT(__LINE__, name)
