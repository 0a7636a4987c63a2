// LayerPass: one transformer layer over a block of rows, the rows of several candidates together. Written
// once over Ops; scoring, generation and calibration are callers that differ in where keys and values live
// and which rows go on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/layer_limits.h"
#include "engine/layer_variants.h"
#include "engine/merge_buffer.h"
#include "engine/ops.h"
#include "engine/taps.h"
#include "engine/weights.h"
#include "kernels/common/error.h"

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
    const float* residual;  // [rows, hidden] before the block's output is added
  };
  virtual void observe(const View& view) = 0;
  virtual size_t memory() const { return 0; }  // bytes of the device that it takes itself
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

// An op that fails in `body` is named with its layer.
template <typename Body>
void in_layer(int64_t layer, const Body& body) {
  try {
    body();
  } catch (const Error& error) {
    throw Error(error.code(), "layer " + std::to_string(layer), error.what(), error.hint());
  }
}

// Intermediates of one layer over a block, cut from one allocation.
struct LayerScratch {
  float* normed = nullptr;         // [block_rows, hidden]
  uint16_t* rounded = nullptr;     // [block_rows, row_stride_16bit of the wider of normed and attended]
  float* q = nullptr;              // [block_rows, heads * head_dim]
  float* attended = nullptr;       // [block_rows, heads * head_dim]
  float* router_logits = nullptr;  // [block_rows, experts]
  float* weight = nullptr;         // [block_rows, slots]
  int32_t* expert = nullptr;       // [block_rows, slots]
  int32_t* order = nullptr;        // [block_rows * slots]
  int32_t* slot_row = nullptr;     // [block_rows * slots]
  float* activation = nullptr;     // [block_rows, widest intermediate]
  float* slot_out = nullptr;       // [block_rows * slots, hidden]
  float* shared_out = nullptr;     // [block_rows, hidden]
  float* shared_gate = nullptr;    // [block_rows]
  float* cosine = nullptr;         // [positions, rotary / 2]
  float* sine = nullptr;           // [positions, rotary / 2]
  int32_t* offset = nullptr;       // [groups + 1]
  int32_t* first_slot = nullptr;   // [first_slots] as [sources, groups]
  int32_t* all_rows = nullptr;     // [2]
  RouterCounts* counts = nullptr;
  TokenScore* scores = nullptr;  // [block_rows] on their way to the host
};

class LayerPass {
 public:
  // Takes all its memory here.
  LayerPass(const Weights& weights, const LayerLimits& limits);

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

  // Whether a block with equal rows fits the table that finds them.
  bool shares(int64_t sources, int64_t merged) const {
    return sources * (config_.num_experts + merged) <= limits_.first_slots;
  }

  // Everything that passes from now on is added there; null: nothing.
  void set_taps(Taps* taps) { taps_ = taps; }
  template <typename T>
  void tap(const char* name, int64_t layer, const T* values, int64_t rows, int64_t width) const {
    if (taps_ != nullptr) taps_->add(name, layer, values, rows, width);
  }

  // What the routers counted since the last call.
  RouterCounts take_counts();
  // Bytes of the experts that the mixtures so far could choose, each once a block.
  int64_t expert_bytes() const { return expert_bytes_; }

  // Scores of rows after the last layer: final norm, then the vocabulary at wanted positions; in host memory.
  void score(const float* residual,                  // [rows, hidden]
             std::span<const int32_t> row_of_score,  // [scores] ascending
             std::span<const int32_t> target,        // [scores]
             TokenScore* out);                       // [scores]
  // Full logits [rows, vocab], in host memory.
  void logits(const float* residual, int64_t rows, float* out);

 private:
  // Norm of heads or of whole rows, clip and rotation of a projection, in place.
  void rotate(float* x, int64_t rows, int64_t heads, const int32_t* position, const float* norm);
  void clip(float* x, int64_t count);
  const int32_t* offset_of_all(int64_t rows);  // {0, rows} on the device: one group of all rows
  void route(int64_t layer, const MixtureBlock& block, std::span<const RouterMap> maps, int32_t slots);
  void shared_expert(const LayerWeights& weights, int64_t rows);
  // The norm of rows into at_.normed, and in 16 bits where products want it so; in_f32: others read it too.
  void normalise(int64_t layer,
                 const float* residual,  // [rows, hidden]
                 int64_t rows,
                 const float* weight,  // [hidden]
                 bool in_f32);
  // Rows that the products to come read, in 16 bits where they want it so; what was rounded last is at hand
  // until then.
  void round(int64_t layer,
             const float* x,  // [rows, width]
             int64_t rows, int64_t width);
  const uint16_t* rounded(const float* x, DType dtype) const;  // or null
  void gemm(const PackedMatrix& w, const float* bias, const float* x, const int32_t* x_index, int64_t rows,
            float* out, bool accumulate = false);

  const Weights& weights_;
  const ModelConfig& config_;
  const Ops& ops_;
  Device device_;
  LayerLimits limits_;
  Taps* taps_ = nullptr;
  DeviceBuffer storage_;  // of everything that LayerScratch points to
  LayerScratch at_;
  DeviceBuffer logits_;  // [kLogitRows, vocab], taken by the first call of logits()
  int64_t offset_rows_ = -1;
  const float* rounded_from_ = nullptr;
  DType rounded_dtype_ = DType::kBF16;
  int64_t expert_bytes_ = 0;
};

}  // namespace eep
