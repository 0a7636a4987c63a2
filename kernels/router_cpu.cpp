// router on the CPU: z = W_gate x for all rows, then row by row softmax, map, top-k and weights (router.h).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>

#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/router_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd_math.h"
#include "kernels/router.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

HWY_INLINE float max_of(const float* values, int64_t count) {
  Lanes highest = broadcast(-kInfinity);
  for (int64_t i = 0; i < count; i += kLanes) {
    highest = maximum(load_first(values + i, count - i, -kInfinity), highest);
  }
  return max_lanes(highest);
}

// exponentials[i] = exp(values[i] - highest); returns their sum over 16 virtual lanes.
HWY_INLINE float exponentials_of(const float* values, int64_t count, float highest, float* exponentials) {
  Lanes total = zero();
  for (int64_t i = 0; i < count; i += kLanes) {
    const Lanes e = exponential(load_first(values + i, count - i, -kInfinity) - broadcast(highest));
    total = total + e;
    store_first(e, exponentials + i, count - i);
  }
  return sum_lanes(total);
}

// mapped[r] = sum_e matrix[r, e] * values[e], each one chain over e ascending; eight rows at a time, so that
// the chains overlap.
HWY_INLINE void map_dense(const RouterMap& map, int64_t experts, const float* values, float* mapped) {
  constexpr int kTogether = 8;
  int32_t r = 0;
  for (; r + kTogether <= map.kept; r += kTogether) {
    const float* matrix = map.matrix + r * experts;
    float sum[kTogether] = {};
    for (int64_t e = 0; e < experts; ++e) {
      EEP_UNROLL for (int j = 0; j < kTogether; ++j) sum[j] = fma(matrix[j * experts + e], values[e], sum[j]);
    }
    for (int j = 0; j < kTogether; ++j) mapped[r + j] = sum[j];
  }
  for (; r < map.kept; ++r) {
    float sum = 0;
    for (int64_t e = 0; e < experts; ++e) sum = fma(map.matrix[r * experts + e], values[e], sum);
    mapped[r] = sum;
  }
}

HWY_INLINE void apply_map(const RouterMap& map, int64_t experts, const float* values, float* mapped) {
  if (map.matrix != nullptr) return map_dense(map, experts, values, mapped);
  for (int32_t r = 0; r < map.kept; ++r) mapped[r] = values[map.kept_experts[r]];
}

// Integers in the order of the floats: NaN lowest, the two zeros equal.
HWY_INLINE int32_t order_key(float value) {
  if (std::isnan(value)) return std::numeric_limits<int32_t>::min();
  const int32_t bits = std::bit_cast<int32_t>(value + 0.0f);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

// best[0..k): indices of the k largest values, largest first, ties to the lower index.
HWY_INLINE void select_top(const float* values, int32_t count, int32_t k, int32_t* best) {
  int32_t keys[kMaxTopK];
  int32_t held = 0;
  for (int32_t i = 0; i < count; ++i) {
    const int32_t key = order_key(values[i]);
    if (held == k && key <= keys[k - 1]) continue;
    int32_t at = held < k ? held++ : k - 1;
    for (; at > 0 && keys[at - 1] < key; --at) {
      keys[at] = keys[at - 1];
      best[at] = best[at - 1];
    }
    keys[at] = key;
    best[at] = i;
  }
}

// How many of the chosen stay: those up to the last one whose value is not below the threshold.
HWY_INLINE int32_t unskipped(const RouterMap& map, const float* values, const int32_t* chosen) {
  int32_t active = map.top_k;
  if (!(map.skip_below > 0)) return active;
  const float least = map.skip_below * values[chosen[0]];
  while (active > 1 && values[chosen[active - 1]] < least) --active;
  return active;
}

struct RowOutput {
  int32_t* expert;  // [slots]
  float* weight;    // [slots]
};

// softmax(W_RM z): compared on W_RM z. Renormalised, the sum over all kept experts cancels. Both return the
// slots in use.
int32_t route_logits(const RouterArgs& args, const RouterMap& map, const float* logits,
                     const RowOutput& out) {
  float mapped[kMaxExperts], exponentials[kMaxExperts];
  apply_map(map, args.gate.n, logits, mapped);
  select_top(mapped, map.kept, map.top_k, out.expert);
  float sum = exponentials_of(mapped, map.kept, max_of(mapped, map.kept), exponentials);
  const int32_t active = unskipped(map, exponentials, out.expert);
  if (args.renormalise) {
    sum = 0;
    for (int32_t slot = 0; slot < active; ++slot) sum += exponentials[out.expert[slot]];
  }
  for (int32_t slot = 0; slot < active; ++slot) out.weight[slot] = exponentials[out.expert[slot]] / sum;
  return active;
}

// W_RM softmax(z), which may be negative or sum to nothing.
int32_t route_probabilities(const RouterArgs& args, const RouterMap& map, const float* logits,
                            const RowOutput& out, RouterCounts& counts) {
  const int64_t experts = args.gate.n;
  float probabilities[kMaxExperts], mapped[kMaxExperts];
  const float total = exponentials_of(logits, experts, max_of(logits, experts), probabilities);
  for (int64_t e = 0; e < experts; ++e) probabilities[e] /= total;
  apply_map(map, experts, probabilities, mapped);
  select_top(mapped, map.kept, map.top_k, out.expert);
  const int32_t active = unskipped(map, mapped, out.expert);
  float sum = 0;
  for (int32_t slot = 0; slot < active; ++slot) {
    out.weight[slot] = mapped[out.expert[slot]];
    sum += out.weight[slot];
  }
  if (!args.renormalise) return active;
  const bool tiny = std::fabs(sum) < kRouterTinySum;
  counts.tiny_sums += tiny;
  counts.negative_sums += !tiny && sum < 0;
  for (int32_t slot = 0; slot < active; ++slot) {
    out.weight[slot] = tiny ? 1.0f / static_cast<float>(active) : out.weight[slot] / sum;
  }
  return active;
}

HWY_INLINE void sigmoids_of(const float* values, int64_t count, float* out) {
  for (int64_t i = 0; i < count; i += kLanes)
    store_first(sigmoid(load_first(values + i, count - i, 0.0f)), out + i, count - i);
}

// Minus infinity for every row outside the top groups.
void mask_groups(float* choice, int32_t kept, int32_t groups, int32_t top_groups) {
  const int32_t size = kept / groups;
  float sums[kMaxExperts];
  for (int32_t group = 0; group < groups; ++group) {
    float best = -kInfinity, second = -kInfinity;
    for (int32_t i = group * size; i < (group + 1) * size; ++i) {
      const bool first = choice[i] > best;
      second = first ? best : choice[i] > second ? choice[i] : second;
      best = first ? choice[i] : best;
    }
    sums[group] = size > 1 ? best + second : best;
  }
  int32_t top[kMaxTopK];
  select_top(sums, groups, top_groups, top);
  for (int32_t group = 0; group < groups; ++group) {
    if (std::find(top, top + top_groups, group) != top + top_groups) continue;
    std::fill(choice + group * size, choice + (group + 1) * size, -kInfinity);
  }
}

// Sigmoid scores; returns the slots in use.
int32_t route_sigmoid(const RouterArgs& args, const RouterMap& map, const float* logits, const RowOutput& out,
                      RouterCounts& counts) {
  const int64_t experts = args.gate.n;
  float scores[kMaxExperts], mapped[kMaxExperts], choice[kMaxExperts];
  const bool probabilities = map.space == RouterSpace::kProbabilities;
  if (probabilities) {
    sigmoids_of(logits, experts, scores);
    apply_map(map, experts, scores, mapped);
  } else {
    apply_map(map, experts, logits, mapped);
    sigmoids_of(mapped, map.kept, mapped);
  }
  if (args.selection_bias != nullptr) {
    apply_map(map, experts, args.selection_bias, choice);
    for (int32_t r = 0; r < map.kept; ++r) choice[r] += mapped[r];
  } else {
    std::copy_n(mapped, map.kept, choice);
  }
  if (args.groups > 1) mask_groups(choice, map.kept, args.groups, args.top_groups);
  select_top(choice, map.kept, map.top_k, out.expert);
  const int32_t active = unskipped(map, mapped, out.expert);
  float sum = 0;
  for (int32_t slot = 0; slot < active; ++slot) {
    out.weight[slot] = mapped[out.expert[slot]];
    sum += out.weight[slot];
  }
  const bool tiny = std::fabs(sum) < kRouterTinySum;
  if (args.renormalise) {
    counts.tiny_sums += tiny;
    counts.negative_sums += !tiny && sum < 0;
  }
  for (int32_t slot = 0; slot < active; ++slot) {
    float& weight = out.weight[slot];
    if (args.renormalise) weight = tiny ? 1.0f / static_cast<float>(active) : weight / sum;
    weight *= args.scale;
  }
  return active;
}

// To the gate's dtype and back (hf_rounding).
template <typename T>
HWY_INLINE void round_values(float* values, int64_t count) {
  for (int64_t i = 0; i < count; i += kLanes) {
    T narrow[kLanes];
    store(load_first(values + i, count - i, 0.0f), narrow);
    store_first(load(narrow), values + i, count - i);
  }
}

HWY_INLINE void round_to(DType dtype, float* values, int64_t count) {
  if (dtype == DType::kBF16) round_values<Bf16>(values, count);
  if (dtype == DType::kF16) round_values<F16>(values, count);
}

// Slots that are not in use.
void fill_rest(const RouterArgs& args, int32_t active, const RowOutput& out) {
  for (int32_t slot = active; slot < args.slots; ++slot) {
    out.expert[slot] = -1;
    out.weight[slot] = 0;
  }
}

void route_rows(const RouterArgs& args, int64_t begin, int64_t end, RouterCounts& counts) {
  for (int64_t row = begin; row < end; ++row) {
    const RouterMap& map = args.maps[args.map_of_row ? args.map_of_row[row] : 0];
    float* const logits = args.logits + row * args.gate.n;
    const RowOutput out{args.expert + row * args.slots, args.weight + row * args.slots};
    if (args.score == RouterScore::kSigmoid) {
      fill_rest(args, route_sigmoid(args, map, logits, out, counts), out);
      continue;
    }
    if (args.hf_rounding) round_to(args.gate.dtype, logits, args.gate.n);
    const int32_t active = map.space == RouterSpace::kLogits
                               ? route_logits(args, map, logits, out)
                               : route_probabilities(args, map, logits, out, counts);
    if (args.hf_rounding) round_to(args.gate.dtype, out.weight, active);
    fill_rest(args, active, out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(route_rows);

void router_cpu(const RouterArgs& args, const Device& device) {
  check(args);
  if (args.gate.n > kMaxExperts || args.slots > kMaxTopK) {
    throw Error(
        ExitCode::kData, "router",
        "too many experts or slots" +
            expected_got("at most " + std::to_string(kMaxExperts) + " and " + std::to_string(kMaxTopK),
                         std::to_string(args.gate.n) + " and " + std::to_string(args.slots)));
  }
  GemmArgs gemm;
  gemm.x = args.x;
  gemm.rows = args.rows;
  gemm.w = args.gate;
  gemm.bias = args.bias;
  gemm.out = args.logits;
  gemm.out_stride = args.gate.n;
  gemm_cpu(gemm, device);

  std::atomic<int64_t> tiny_sums = 0, negative_sums = 0;
  parallel_rows(device, args.rows, 256, [&](int64_t begin, int64_t end) {
    RouterCounts counts;
    HWY_DYNAMIC_DISPATCH(route_rows)(args, begin, end, counts);
    tiny_sums += counts.tiny_sums;
    negative_sums += counts.negative_sums;
  });
  if (args.counts) {
    args.counts->tiny_sums += tiny_sums;
    args.counts->negative_sums += negative_sums;
  }
}

}  // namespace eep
#endif
