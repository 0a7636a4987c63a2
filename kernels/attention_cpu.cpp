// attention on the CPU: out[q] = sum_p softmax_p(q . k_p * scale) v_p, causal, for runs of query rows over
// spans.
//
// A unit of work is (run, tile of query rows, kv head): the tile's rows times the heads of the group are its
// vectors. Keys go by in blocks of 64 absolute positions. For each block:
//   keys     transposed once to panels of 16 keys, so that scores are a product with lanes along the keys
//   scores   [vectors, 64], one chain over head_dim each
//   softmax  online: the running maximum and sum of each vector, rescaled from block to block
//   values   sum_p p v_p with lanes along head_dim, one chain over the block's keys
// Keys that a vector must not see get probability 0, which adds nothing; a block whose values are not finite
// (0 * infinity) is taken vector by vector over its own keys.
#include <algorithm>
#include <string>

#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention_cpu.cpp"
#include "hwy/cache_control.h"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/attention.h"
#include "kernels/attention_schedule.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/cpu/gemm_panel.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd_math.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

// One block of keys for one kv head.
struct KeyBlock {
  int64_t begin = 0, end = 0;      // absolute positions present
  const float* keys[kKeyBlock];    // [end - begin] rows of [head_dim]
  const float* values[kKeyBlock];  // [end - begin] rows of [head_dim]
};

// Where the spans' walk has come to.
struct SpanCursor {
  const KvSpan* span;
  int64_t row;
};

HWY_INLINE void next_block(const AttentionArgs& args, int64_t kv_head, int64_t end, SpanCursor& cursor,
                           KeyBlock& block) {
  const int64_t offset = kv_head * args.head_dim, stride = args.kv_heads * args.head_dim;
  for (int64_t position = block.begin; position < end; ++position) {
    while (cursor.row == cursor.span->rows) cursor = {cursor.span + 1, 0};
    block.keys[position - block.begin] = cursor.span->k + cursor.row * stride + offset;
    block.values[position - block.begin] = cursor.span->v + cursor.row * stride + offset;
    ++cursor.row;
  }
  block.end = end;
}

// Steps over the positions before `position`.
HWY_INLINE SpanCursor span_at(const KvSpan* span, int64_t position) {
  while (position > 0 && position >= span->rows) position -= (span++)->rows;
  return {span, position};
}

#if !EEP_PLAIN
// out[i * 16 + j] = rows[j][i] for a square of 4.
HWY_INLINE void transpose_square(const float* const* rows, int64_t column, float* out) {
  const hn::FixedTag<float, 4> d;
  const hn::RepartitionToWide<decltype(d)> wide;
  const auto a = hn::LoadU(d, rows[0] + column), b = hn::LoadU(d, rows[1] + column);
  const auto c = hn::LoadU(d, rows[2] + column), e = hn::LoadU(d, rows[3] + column);
  const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(d, a, b));   // a0 b0 a1 b1
  const auto ab_high = hn::BitCast(wide, hn::InterleaveUpper(d, a, b));  // a2 b2 a3 b3
  const auto ce_low = hn::BitCast(wide, hn::InterleaveLower(d, c, e));
  const auto ce_high = hn::BitCast(wide, hn::InterleaveUpper(d, c, e));
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, ab_low, ce_low)), d, out);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, ab_low, ce_low)), d, out + kLanes);
  hn::StoreU(hn::BitCast(d, hn::InterleaveLower(wide, ab_high, ce_high)), d, out + 2 * kLanes);
  hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(wide, ab_high, ce_high)), d, out + 3 * kLanes);
}
#endif

// Long contexts: rows of one head are short pieces far apart, which the hardware does not foresee.
HWY_INLINE void prefetch_row(const float* row, int64_t head_dim) {
  for (int64_t i = 0; i < head_dim; i += 16) hwy::Prefetch(row + i);
}

// panels[p][i][lane] = keys[16 p + lane][i], zeros beyond the block's end.
void transpose_keys(const KeyBlock& block, int64_t head_dim, float* panels) {
  const int64_t count = block.end - block.begin;
  for (int64_t key = 0; key < (count + kLanes - 1) / kLanes * kLanes; key += 4) {
    float* out = panels + key / kLanes * head_dim * kLanes + key % kLanes;
    for (int64_t j = key; count == kKeyBlock && j < key + 4; ++j) {
      if (j + 8 < count) prefetch_row(block.keys[j + 8], head_dim);
      prefetch_row(block.values[j], head_dim);
    }
    int64_t i = 0;
#if !EEP_PLAIN
    if (key + 4 <= count) {
      for (; i + 4 <= head_dim; i += 4) transpose_square(block.keys + key, i, out + i * kLanes);
    }
#endif
    for (; i < head_dim; ++i) {
      for (int64_t j = 0; j < 4; ++j) out[i * kLanes + j] = key + j < count ? block.keys[key + j][i] : 0.0f;
    }
  }
}

// The state of one vector of the tile.
struct VectorState {
  float maximum;
  float sum;
  float rescale;  // of what was summed before this block
};

// scores -> probabilities, in place, for the block's keys; those outside [low, high) get 0.
HWY_INLINE void softmax_block(float* scores, int64_t low, int64_t high, int64_t panels, float scale,
                              VectorState& state) {
  const int64_t end = (high + kLanes - 1) / kLanes * kLanes;
  Lanes highest = broadcast(-kInfinity);
  for (int64_t i = 0; i < end; i += kLanes) {
    Lanes scaled = load(scores + i) * broadcast(scale);
    if (i < low || i + kLanes > high) {
      const Lanes key = ramp(static_cast<float>(i)), hidden = broadcast(-kInfinity);
      scaled = select_less(key, broadcast(static_cast<float>(low)), hidden, scaled);
      scaled = select_less(key, broadcast(static_cast<float>(high)), scaled, hidden);
    }
    store(scaled, scores + i);
    highest = maximum(scaled, highest);
  }
  const float block_maximum = max_lanes(highest);
  const float next = block_maximum > state.maximum ? block_maximum : state.maximum;
  Lanes total = zero();
  for (int64_t i = 0; i < end; i += kLanes) {
    const Lanes probability = exponential(load(scores + i) - broadcast(next));
    store(probability, scores + i);
    total = total + probability;
  }
  for (int64_t i = end; i < panels * kLanes; i += kLanes) store(zero(), scores + i);
  state.rescale = exponential(state.maximum - next);
  state.sum = fma(state.sum, state.rescale, sum_lanes(total));
  state.maximum = next;
}

// sums[r, 0 .. 16 * kPanels) += sum over keys of probabilities[r][key] * values[key]
template <int kRows, int kPanels>
HWY_INLINE void mix_tile(const float* probabilities,  // [kRows, kChunkColumns]
                         const float* const* values, int64_t column, int64_t keys,
                         float* sums) {  // [kRows, kChunkColumns]
  Lanes sum[kRows][kPanels];
  EEP_UNROLL for (int r = 0; r < kRows; ++r) {
    EEP_UNROLL for (int p = 0; p < kPanels; ++p) sum[r][p] = load(sums + r * kChunkColumns + p * kLanes);
  }
  for (int64_t key = 0; key < keys; ++key) {
    Lanes value[kPanels];
    EEP_UNROLL for (int p = 0; p < kPanels; ++p) value[p] = load(values[key] + column + p * kLanes);
    EEP_UNROLL for (int r = 0; r < kRows; ++r) {
      const Lanes probability = broadcast(probabilities[r * kChunkColumns + key]);
      EEP_UNROLL for (int p = 0; p < kPanels; ++p) sum[r][p] = fma(probability, value[p], sum[r][p]);
    }
  }
  EEP_UNROLL for (int r = 0; r < kRows; ++r) {
    EEP_UNROLL for (int p = 0; p < kPanels; ++p) store(sum[r][p], sums + r * kChunkColumns + p * kLanes);
  }
}

template <int kRows>
HWY_NOINLINE void mix_row(const float* probabilities, const float* const* values, int64_t column,
                          int64_t keys, float* sums, int64_t panels) {
  constexpr int kPanels = tile_panels(kRows);
  int64_t p = 0;
  for (; p + kPanels <= panels; p += kPanels) {
    mix_tile<kRows, kPanels>(probabilities, values, column + p * kLanes, keys, sums + p * kLanes);
  }
  for (; p < panels; ++p)
    mix_tile<kRows, 1>(probabilities, values, column + p * kLanes, keys, sums + p * kLanes);
}

HWY_INLINE void mix_rows(int64_t rows, const float* probabilities, const float* const* values, int64_t column,
                         int64_t keys, float* sums, int64_t panels) {
  switch (rows) {
    case 1:
      return mix_row<1>(probabilities, values, column, keys, sums, panels);
    case 2:
      return mix_row<2>(probabilities, values, column, keys, sums, panels);
    case 3:
      return mix_row<3>(probabilities, values, column, keys, sums, panels);
    case 4:
      return mix_row<4>(probabilities, values, column, keys, sums, panels);
    case 5:
      return mix_row<5>(probabilities, values, column, keys, sums, panels);
    default:
      return mix_row<6>(probabilities, values, column, keys, sums, panels);
  }
}

bool all_finite(const KeyBlock& block, int64_t head_dim) {
  Lanes sum = zero();  // stays 0 unless a value is infinite or NaN
  for (int64_t key = 0; key < block.end - block.begin; ++key) {
    for (int64_t i = 0; i < head_dim; i += kLanes) {
      sum = fma(load_first(block.values[key] + i, head_dim - i), zero(), sum);
    }
  }
  return sum_lanes(sum) == 0.0f;
}

// The tile's vectors: vector v is query row v / group of the tile, head v % group of the kv head.
struct Tile {
  const AttentionArgs& args;
  int64_t query;           // first row in q and out
  int64_t position;        // of that row
  int64_t kv_head, group;  // group: query heads of a kv head

  int64_t position_of(int64_t vector) const { return position + vector / group; }
  int64_t offset_of(int64_t vector) const {
    return ((query + vector / group) * args.heads + kv_head * group + vector % group) * args.head_dim;
  }
  // Before the first key: a sink is a key of no value that every vector has seen.
  VectorState start(int64_t vector) const {
    if (args.sinks == nullptr) return {-kInfinity, 0.0f, 0.0f};
    return {args.sinks[kv_head * group + vector % group], 1.0f, 0.0f};
  }
  // First position that the vector sees.
  int64_t first_of(int64_t vector) const {
    return args.window > 0 ? std::max<int64_t>(0, position_of(vector) - args.window + 1) : 0;
  }
};

// Values of one block into out, for vectors [begin, end) whose keys of the block lie in [low, high). columns
// of values are padded to whole panels in `values`.
void mix_vectors(const Tile& tile, const KeyBlock& block, const float* const* values, int64_t begin,
                 int64_t end, int64_t low, int64_t high, const float* probabilities,
                 const VectorState* states) {
  const int64_t head_dim = tile.args.head_dim;
  for (int64_t column = 0; column < head_dim; column += kChunkColumns) {
    const int64_t width = std::min(kChunkColumns, head_dim - column);
    const int64_t panels = (width + kLanes - 1) / kLanes;
    HWY_ALIGN float sums[kMaxTileRows * kChunkColumns];
    for (int64_t v = begin; v < end; ++v) {
      const float* out = tile.args.out + tile.offset_of(v) + column;
      const bool first = tile.first_of(v) >= block.begin;
      for (int64_t i = 0; i < panels * kLanes; i += kLanes) {
        const Lanes before = first ? zero() : load_first(out + i, width - i) * broadcast(states[v].rescale);
        store(before, sums + (v - begin) * kChunkColumns + i);
      }
    }
    mix_rows(end - begin, probabilities + begin * kChunkColumns + low, values + low, column, high - low, sums,
             panels);
    for (int64_t v = begin; v < end; ++v) {
      float* out = tile.args.out + tile.offset_of(v) + column;
      const bool last = tile.position_of(v) < block.begin + kKeyBlock;
      for (int64_t i = 0; i < panels * kLanes; i += kLanes) {
        Lanes sum = load(sums + (v - begin) * kChunkColumns + i);
        // + 0 turns -0, which a masked key's 0 * v may or may not have turned already, into 0.
        if (last) sum = sum / broadcast(states[v].sum) + zero();
        store_first(sum, out + i, width - i);
      }
    }
  }
}

void attention_unit(const AttentionArgs& args, const AttentionRun& run, int64_t row_begin, int64_t row_end,
                    int64_t kv_head) {
  const int64_t head_dim = args.head_dim, group = args.heads / args.kv_heads;
  const Tile tile{args, run.query_begin + row_begin, run.first_position + row_begin, kv_head, group};
  const int64_t vectors = (row_end - row_begin) * group;
  const int64_t key_end = run.first_position + row_end;

  HWY_ALIGN float keys[kKeyBlock * kMaxHeadDim];
  HWY_ALIGN float
      padded[kKeyBlock * kMaxHeadDim];  // values with rows of whole panels, only if head_dim has none
  HWY_ALIGN float scores[kTileVectors * kChunkColumns];
  VectorState states[kTileVectors];
  const float* queries[kTileVectors];
  for (int64_t v = 0; v < vectors; ++v) {
    states[v] = tile.start(v);
    queries[v] = args.q + tile.offset_of(v);
  }

  KeyBlock block;
  block.begin = tile.first_of(0) / kKeyBlock * kKeyBlock;
  SpanCursor cursor = span_at(args.spans + run.span_begin, block.begin);
  for (; block.begin < key_end; block.begin += kKeyBlock) {
    next_block(args, kv_head, std::min(key_end, block.begin + kKeyBlock), cursor, block);
    const int64_t count = block.end - block.begin, panels = (count + kLanes - 1) / kLanes;

    // Vectors that see a key of this block: those at or after its first position whose window has not passed
    // it.
    int64_t active = std::max<int64_t>(0, block.begin - tile.position) * group;
    int64_t active_end = vectors;
    while (active_end > active && tile.first_of(active_end - 1) >= block.end) active_end -= group;

    transpose_keys(block, head_dim, keys);
    panel_product(static_cast<const float*>(keys), head_dim, queries + active, active_end - active,
                  static_cast<int>(panels), scores + active * kChunkColumns);
    const auto low_of = [&](int64_t v) { return std::max<int64_t>(0, tile.first_of(v) - block.begin); };
    const auto high_of = [&](int64_t v) { return std::min(count, tile.position_of(v) + 1 - block.begin); };
    for (int64_t v = active; v < active_end; ++v) {
      softmax_block(scores + v * kChunkColumns, low_of(v), high_of(v), panels, args.scale, states[v]);
    }

    const float* values[kKeyBlock];
    const int64_t padded_dim = (head_dim + kLanes - 1) / kLanes * kLanes;
    for (int64_t key = 0; key < count; ++key) {
      values[key] = block.values[key];
      if (padded_dim == head_dim) continue;
      float* copy = padded + key * padded_dim;
      std::copy_n(block.values[key], head_dim, copy);
      std::fill(copy + head_dim, copy + padded_dim, 0.0f);
      values[key] = copy;
    }
    const bool uniform =
        low_of(active) == low_of(active_end - 1) && high_of(active) == high_of(active_end - 1);
    const int64_t step = uniform || all_finite(block, head_dim) ? kMaxTileRows : 1;
    for (int64_t v = active; v < active_end; v += step) {
      const int64_t end = std::min(active_end, v + step);
      mix_vectors(tile, block, values, v, end, low_of(v), high_of(end - 1), scores, states);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(attention_unit);

void attention_cpu(const AttentionArgs& args, const Device& device) {
  check(args);
  const int64_t group = args.heads / args.kv_heads;
  if (args.head_dim > kMaxHeadDim || group > kTileVectors) {
    throw Error(
        ExitCode::kData, "attention",
        "head_dim or heads per kv head too large" +
            expected_got("at most " + std::to_string(kMaxHeadDim) + " and " + std::to_string(kTileVectors),
                         std::to_string(args.head_dim) + " and " + std::to_string(group)));
  }
  int64_t longest = 0;
  for (int64_t i = 0; i < args.run_count; ++i) longest = std::max(longest, args.runs[i].query_rows);
  const int64_t tile_rows = attention_tile_rows(group);
  const int64_t tiles = (longest + tile_rows - 1) / tile_rows;  // of the longest run; shorter ones have fewer
  parallel_for(device, args.run_count * args.kv_heads * tiles, [&](int64_t unit) {
    const AttentionRun& run = args.runs[unit / (args.kv_heads * tiles)];
    const int64_t begin = unit / args.kv_heads % tiles * tile_rows;
    const int64_t end = std::min(run.query_rows, begin + tile_rows);
    if (begin < end) HWY_DYNAMIC_DISPATCH(attention_unit)(args, run, begin, end, unit % args.kv_heads);
  });
}

}  // namespace eep
#endif
