// ChunkPass: one chunk of prompts through all layers for one batch of candidates. Candidates that agree on
// every layer so far are one residual stream; a stream splits where their plans part. The last layer finishes
// the scored rows alone.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/forward.h"
#include "engine/kept_layers.h"
#include "engine/layer_pass.h"
#include "engine/layer_variants.h"
#include "engine/merge_buffer.h"
#include "engine/prompt_chunks.h"
#include "engine/stages.h"
#include "kernels/common/rows.h"

namespace eep {

// What a pass moved, when it is over.
void count_weights(const LayerPass& layers, const MergeBuffer& merged, WorkCounts* work);

struct Stream {
  std::vector<size_t> candidates;
};

// The residual streams of a chunk: [streams, rows, hidden] in one of two buffers, so that a split or the last
// layer's compaction copies from one to the other.
class Residuals {
 public:
  Residuals(const Backend& backend, int64_t capacity_rows, int64_t hidden);
  // Row `row` of the rows that are computed on, and of those that take their place next.
  float* current(int64_t row = 0) { return Rows(buffers_[active_].as<float>(), hidden_)[row]; }
  float* other(int64_t row = 0) { return Rows(buffers_[1 - active_].as<float>(), hidden_)[row]; }
  void swap() { active_ = 1 - active_; }
  void copy_rows(int64_t from, int64_t to, int64_t rows);       // current -> other
  void gather_rows(std::span<const int32_t> from, int64_t to);  // current -> other, to the rows from `to` on

 private:
  const Ops& ops_;
  Device device_;
  DeviceBuffer buffers_[2];
  int64_t capacity_rows_, hidden_;
  size_t active_ = 0;
};

class ChunkPass {
 public:
  // Takes all its memory here, as the plan says. All outlive this object.
  ChunkPass(const Weights& weights, const LayerVariants& variants, const MemoryPlan& plan, WorkCounts& work);
  ~ChunkPass();

  // Candidates begin behind what is kept of them, and leave behind what later ones may begin at. Both outlive
  // this object; prefixes are those of the plans that the variants were made of.
  void keep_in(KeptLayers* kept, const PlanPrefixes* prefixes) {
    kept_ = kept;
    prefixes_ = prefixes;
  }
  // Afterwards the streams hold the rows chunk.wanted, [streams, wanted, hidden] in residual(); of a stage
  // that is not the last, all rows of the chunk. A stage that is not the first receives them from the one
  // before it.
  void run(const PromptChunk& chunk, std::span<const size_t> candidates, MixtureObserver* observer);
  // To the next stage: the rows of all streams of the chunk that was run.
  void send_rows(const PromptChunk& chunk);
  // The streams as they will be behind the last layer; there are no rows any more.
  void follow_to_end();

  // Called after every layer with the number of layers that are done; may be empty.
  void set_after_layer(std::function<void(int64_t layers)> after) { after_layer_ = std::move(after); }

  const std::vector<Stream>& streams() const { return streams_; }
  float* residual() { return residuals_.current(); }
  LayerPass& layers() { return layers_; }
  const MergeBuffer& merged() const { return merged_; }
  int64_t computed_row_layers() const { return computed_row_layers_; }
  int64_t kept_row_layers() const { return kept_row_layers_; }  // not computed: rows of earlier passes

 private:
  // Candidates that begin at a layer, with the rows that are kept of the layers before it.
  struct Start {
    int64_t layer;
    KeptLayers::Rows rows;
    std::vector<size_t> candidates;
  };
  // Those of `candidates` of which nothing is kept are returned.
  std::vector<size_t> find_starts(const PromptChunk& chunk, std::span<const size_t> candidates);
  void begin_streams(int64_t layer, int64_t rows);
  // Of all streams of the chunk, behind a layer that is not the last.
  int64_t residual_floats(const PromptChunk& chunk) const {
    return static_cast<int64_t>(streams_.size()) * chunk.rows * config_.hidden_size;
  }
  void keep_streams(int64_t layer, const PromptChunk& chunk);
  // Where the streams of a layer's second half come from.
  struct Split {
    std::vector<int32_t> variant;  // [streams]
    std::vector<int32_t> parent;   // [streams] stream before the split
  };
  template <typename Body>
  void for_blocks(int64_t rows, const Body& body);
  void run_layer(int64_t layer, const PromptChunk& chunk, MixtureObserver* observer);
  void attention(int64_t layer, const PromptChunk& chunk, bool last);
  // Merging reads memory and attention multiplies: where the backend can, the experts of the mixture's first
  // block, and as many more as there is room for, are merged beside the layer's attention.
  void begin_merging(int64_t layer);
  // The same between the blocks: what the streams from `first` on need, as far as there is room, in one read
  // of the base experts.
  void merge_ahead(int64_t layer, const Split& split, int64_t first);
  Split split(int64_t layer, int64_t rows);
  // Splits streams without rows by layers that other stages have.
  void split_by(int64_t first, int64_t end);
  void mixture(int64_t layer, int64_t rows, const Split& split, MixtureObserver* observer);

  const Weights& weights_;
  const ModelConfig& config_;
  const Ops& ops_;
  Device device_;
  const LayerVariants& variants_;
  const MemoryPlan& plan_;
  LayerPass layers_;
  MergeBuffer merged_;
  WorkCounts& work_;
  Residuals residuals_;
  DeviceBuffer k_, v_;  // [block_rows, kv_heads * head_dim] of the current layer
  std::vector<Stream> streams_;
  std::vector<AttentionRun> runs_;
  std::vector<KvSpan> spans_;
  std::vector<int32_t> variant_of_row_, source_row_;
  KeptLayers* kept_ = nullptr;
  const PlanPrefixes* prefixes_ = nullptr;
  RowsHash chunk_hash_;
  std::vector<Start> starts_;
  int64_t computed_row_layers_ = 0, kept_row_layers_ = 0;
  std::function<void(int64_t layers)> after_layer_;
};

}  // namespace eep
