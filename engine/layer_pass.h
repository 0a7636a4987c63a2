// LayerPass: one transformer layer over a block of rows, the rows of several candidates together. Written
// once over Ops; scoring, generation and calibration are callers that differ in where keys and values live
// and which rows go on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/layer_variants.h"
#include "engine/merge_buffer.h"
#include "engine/ops.h"
#include "engine/weights.h"

namespace eep {

// Sees the inside of a mixture layer, for calibration: pointers are device memory.
class MixtureObserver {
 public:
  virtual ~MixtureObserver() = default;
  struct View {
    int64_t layer;
    int64_t rows;
    const float* x;         // [rows, hidden] input of the block, after the norm
    const float* logits;    // [rows, experts]
    const int32_t* expert;  // [rows, slots]
    const float* weight;    // [rows, slots]
    const float* slot_out;  // [rows * slots, hidden]
    int32_t slots;
  };
  virtual void observe(const View& view) = 0;
};

// Rows that pass the mixture together: each row belongs to one variant of the layer.
struct MixtureBlock {
  float* residual = nullptr;  // [rows, hidden]
  int64_t rows = 0;
  std::span<const LayerVariant* const> variants;  // distinct variants in this block
  // Rows that came here as one row of a common stream are equal; an expert sees each once. null: all rows
  // differ.
  const int32_t* source_row = nullptr;  // [rows] in [0, sources)
  int32_t sources = 0;
  const int32_t* variant_of_row = nullptr;  // [rows] index into variants, or null: all rows use variants[0]
};

class LayerPass {
 public:
  // block_rows: most rows of one call; slots: largest top_k; positions: rope table size.
  LayerPass(const Weights& weights, const Ops& ops, const Device& device, int64_t block_rows, int32_t slots,
            int64_t positions);

  // Attention, first half: norm of the rows, keys and values of each.
  void keys_values(int64_t layer, const float* residual,  // [rows, hidden]
                   int64_t rows,
                   const int32_t* position,  // [rows]
                   float* k,                 // [rows, kv_heads * head_dim]
                   float* v);                // [rows, kv_heads * head_dim]

  // Attention, second half, for the rows `wanted` of the block just given to keys_values (null: all). The
  // output is added to residual.
  void attend(int64_t layer, const int32_t* wanted,  // [rows] or null
              int64_t rows,
              const int32_t* position,  // [rows]
              std::span<const AttentionRun> runs, std::span<const KvSpan> spans,
              float* residual);  // [rows, hidden]

  // Feed-forward half: mixture of experts (sparse layers) or dense FFN.
  void mixture(int64_t layer, const MixtureBlock& block, MergeBuffer& merged,
               MixtureObserver* observer = nullptr);
  void dense(int64_t layer, float* residual, int64_t rows);

  // What the routers counted since the last call.
  RouterCounts take_counts();

  // Scores of rows after the last layer: final norm, then the vocabulary at wanted positions; in host memory.
  void score(const float* residual, int64_t rows, std::span<const int32_t> row_of_score,
             std::span<const int32_t> target, TokenScore* out);
  // Full logits [rows, vocab], in host memory.
  void logits(const float* residual, int64_t rows, float* out);

 private:
  const int32_t* offset_of_all(int64_t rows);  // {0, rows} on the device: one group of all rows
  void shared_expert(const LayerWeights& weights, int64_t rows);
  void gemm(const PackedMatrix& w, const float* bias, const float* x, const int32_t* x_index, int64_t rows,
            float* out, bool accumulate = false);

  const Weights& weights_;
  const ModelConfig& config_;
  const Ops& ops_;
  Device device_;
  DeviceBuffer cosine_, sine_;  // [positions, head_dim / 2]
  DeviceBuffer storage_;
  float *normed_, *q_, *attended_, *logits_, *weight_, *activation_, *slot_out_, *shared_out_, *shared_gate_;
  int32_t *expert_, *order_, *slot_row_;
  DeviceBuffer offset_;      // [groups + 1]
  DeviceBuffer first_slot_;  // [sources, groups]
  DeviceBuffer counts_;      // RouterCounts
  DeviceBuffer all_rows_;    // [2]
  DeviceBuffer results_;     // scores or logits on their way to the host
  int64_t offset_rows_ = -1;
};

}  // namespace eep
