#include "engine/chunk_pass.h"

#include <algorithm>
#include <map>
#include <set>

#include "engine/layer_mark.h"
#include "kernels/common/interrupt.h"

namespace eep {
namespace {

// Runs and spans of `count` streams, whose rows lie one stream after the other in the block.
void expand(const AttentionLayout& layout, int64_t count, int64_t key_rows, int64_t query_rows,
            const float* k, const float* v, int64_t kv_width, std::vector<AttentionRun>* runs,
            std::vector<KvSpan>* spans) {
  runs->clear();
  spans->clear();
  for (int64_t stream = 0; stream < count; ++stream) {
    const int64_t span_base = static_cast<int64_t>(spans->size());
    for (const ChunkSpan& span : layout.spans) {
      const int64_t row = stream * key_rows + span.row_begin;
      spans->push_back({k + row * kv_width, v + row * kv_width, span.rows});
    }
    for (const ChunkRun& run : layout.runs) {
      runs->push_back({stream * query_rows + run.query_begin, run.query_rows, run.first_position,
                       span_base + run.span_begin, run.span_count});
    }
  }
}

// Distinct merged rows of whole variants, until one finds no room.
class RowsToMerge {
 public:
  RowsToMerge(int64_t room, int64_t experts) : room_(room), experts_(experts) {}
  bool add(const LayerVariant& variant) {
    std::vector<MergedRow> fresh;
    for (size_t row = 0; row < variant.merged_id.size(); ++row) {
      const int32_t id = variant.merged_id[row];
      if (id < 0 || seen_.count(id) != 0) continue;
      seen_.insert(id);
      fresh.push_back({id, variant.merging + static_cast<int64_t>(row) * experts_});
    }
    full_ = full_ || static_cast<int64_t>(rows_.size() + fresh.size()) > room_;
    if (!full_) rows_.insert(rows_.end(), fresh.begin(), fresh.end());
    return !full_;
  }
  const std::vector<MergedRow>& list() const { return rows_; }

 private:
  int64_t room_, experts_;
  std::vector<MergedRow> rows_;
  std::set<int32_t> seen_;
  bool full_ = false;
};

}  // namespace

void count_weights(const LayerPass& layers, const MergeBuffer& merged, WorkCounts* work) {
  work->merged_experts += merged.counts().experts;
  work->merge_bytes += merged.counts().read_bytes + merged.counts().written_bytes;
  work->expert_bytes += layers.expert_bytes();
}

Residuals::Residuals(const Backend& backend, int64_t capacity_rows, int64_t hidden)
    : ops_(*backend.ops), device_(backend.device), capacity_rows_(capacity_rows), hidden_(hidden) {
  for (DeviceBuffer& buffer : buffers_)
    buffer = DeviceBuffer(backend, static_cast<size_t>(capacity_rows * hidden) * sizeof(float));
}

void Residuals::copy_rows(int64_t from, int64_t to, int64_t rows) {
  ops_.copy(other(to), current(from), static_cast<size_t>(rows * hidden_) * sizeof(float), device_);
}

void Residuals::gather_rows(std::span<const int32_t> from, int64_t to) {
  const Tensor rows(current(), DType::kF32, {capacity_rows_, hidden_});
  ops_.embed({rows, from.data(), static_cast<int64_t>(from.size()), other(to)}, device_);
}

ChunkPass::ChunkPass(const Weights& weights, const LayerVariants& variants, const MemoryPlan& plan,
                     WorkCounts& work)
    : weights_(weights),
      config_(weights.config()),
      ops_(weights.ops()),
      device_(weights.device()),
      variants_(variants),
      plan_(plan),
      layers_(weights, plan.limits),
      merged_(weights, plan.merged_experts),
      work_(work),
      residuals_(weights.backend(), plan.chunk_rows * plan.candidates, config_.hidden_size) {
  const int64_t kv_width = config_.num_kv_heads * config_.head_dim;
  k_ = DeviceBuffer(weights.backend(), static_cast<size_t>(plan.block_rows * kv_width) * sizeof(float));
  v_ = DeviceBuffer(weights.backend(), static_cast<size_t>(plan.block_rows * kv_width) * sizeof(float));
}

ChunkPass::~ChunkPass() {
  if (weights_.link() != nullptr) weights_.link()->await_rows();
}

// Calls body(first stream, stream count) for blocks of whole streams of `rows` rows each.
template <typename Body>
void ChunkPass::for_blocks(int64_t rows, const Body& body) {
  const int64_t streams = static_cast<int64_t>(streams_.size());
  const int64_t step = std::max<int64_t>(1, plan_.block_rows / std::max<int64_t>(rows, 1));
  for (int64_t first = 0; first < streams; first += step) body(first, std::min(step, streams - first));
}

void ChunkPass::run(const PromptChunk& chunk, std::span<const size_t> candidates, MixtureObserver* observer) {
  const LayerRange& own = weights_.layers();
  StageLink* const link = weights_.link();
  if (link != nullptr) link->await_rows();  // of the chunk before
  streams_.clear();
  std::vector<size_t> fresh = find_starts(chunk, candidates);
  if (!fresh.empty()) streams_.push_back({std::move(fresh)});
  if (own.begin > 0) {
    split_by(0, own.begin);
    link->receive_rows(link->stage() - 1, residuals_.current(), residual_floats(chunk));
  } else if (!streams_.empty()) {
    ops_.embed({weights_.embedding(), chunk.tokens.data(), chunk.rows, residuals_.current()}, device_);
    layers_.tap("embedding", -1, residuals_.current(), chunk.rows, config_.hidden_size);
  }
  for (int64_t layer = own.begin; layer < own.end; ++layer) {
    check_interrupted();
    begin_streams(layer, chunk.rows);
    if (!streams_.empty()) in_layer(layer, [&] { run_layer(layer, chunk, observer); });
    if (after_layer_) after_layer_(layer + 1);
    if (kept_ == nullptr || layer + 1 == config_.num_layers) continue;
    keep_streams(layer, chunk);
    kept_row_layers_ +=
        chunk.rows * (prefixes_->distinct(layer, candidates) - static_cast<int64_t>(streams_.size()));
  }
  const RouterCounts counts = layers_.take_counts();
  work_.router.tiny_sums += counts.tiny_sums;
  work_.router.negative_sums += counts.negative_sums;
}

void ChunkPass::send_rows(const PromptChunk& chunk) {
  StageLink& link = *weights_.link();
  link.send_rows(link.stage() + 1, residuals_.current(), residual_floats(chunk));
}

void ChunkPass::split_by(int64_t first, int64_t end) {
  for (int64_t layer = first; layer < end; ++layer) {
    if (config_.sparse[static_cast<size_t>(layer)] != 0) split(layer, 0);
  }
}

void ChunkPass::follow_to_end() { split_by(weights_.layers().end, config_.num_layers); }

std::vector<size_t> ChunkPass::find_starts(const PromptChunk& chunk, std::span<const size_t> candidates) {
  starts_.clear();
  if (kept_ == nullptr) return {candidates.begin(), candidates.end()};
  chunk_hash_ = hash_of(chunk);
  std::vector<size_t> fresh;
  for (const size_t candidate : candidates) {
    KeptLayers::Rows rows;
    int64_t layer = config_.num_layers - 1;  // the last layer's rows are the candidate's own
    while (rows == nullptr && --layer >= 0) {
      if (prefixes_->parts(layer, candidate))
        rows = kept_->find({chunk_hash_, prefixes_->hash(layer, candidate)});
    }
    if (rows == nullptr) {
      fresh.push_back(candidate);
      continue;
    }
    const auto same =
        std::find_if(starts_.begin(), starts_.end(), [&](const Start& start) { return start.rows == rows; });
    if (same != starts_.end()) {
      same->candidates.push_back(candidate);
    } else {
      starts_.push_back({layer + 1, std::move(rows), {candidate}});
    }
  }
  return fresh;
}

void ChunkPass::begin_streams(int64_t layer, int64_t rows) {
  const int64_t size = rows * config_.hidden_size;
  for (Start& start : starts_) {
    if (start.layer != layer) continue;
    ops_.copy(residuals_.current(static_cast<int64_t>(streams_.size()) * rows), start.rows->data(),
              static_cast<size_t>(size) * sizeof(float), device_);
    streams_.push_back({std::move(start.candidates)});
  }
}

// A stream's candidates agree on all layers so far; those that begin later are not among the streams yet.
void ChunkPass::keep_streams(int64_t layer, const PromptChunk& chunk) {
  const int64_t size = chunk.rows * config_.hidden_size;
  for (size_t stream = 0; stream < streams_.size(); ++stream) {
    const size_t candidate = streams_[stream].candidates.front();
    if (!prefixes_->parts(layer, candidate)) continue;
    kept_->keep({chunk_hash_, prefixes_->hash(layer, candidate)}, layer,
                residuals_.current(static_cast<int64_t>(stream) * chunk.rows),
                static_cast<size_t>(size) * sizeof(float));
  }
}

void ChunkPass::run_layer(int64_t layer, const PromptChunk& chunk, MixtureObserver* observer) {
  const LayerMark mark(weights_.backend(), layer);
  const bool last = layer + 1 == config_.num_layers;
  const bool sparse = config_.sparse[static_cast<size_t>(layer)] != 0;
  const int64_t rows = last ? static_cast<int64_t>(chunk.wanted.size()) : chunk.rows;
  if (sparse && rows > 0 && ops_.fork_beside != nullptr) begin_merging(layer);
  attention(layer, chunk, last);
  if (rows == 0) return;
  if (sparse) {
    mixture(layer, rows, split(layer, rows), observer);
  } else {
    for_blocks(rows, [&](int64_t first, int64_t count) {
      layers_.dense(layer, residuals_.current(first * rows), count * rows);
    });
  }
  computed_row_layers_ += rows * static_cast<int64_t>(streams_.size());
}

void ChunkPass::attention(int64_t layer, const PromptChunk& chunk, bool last) {
  const int64_t kv_width = config_.num_kv_heads * config_.head_dim;
  const int64_t rows = chunk.rows, wanted = static_cast<int64_t>(chunk.wanted.size());
  for_blocks(rows, [&](int64_t first, int64_t count) {
    float* residual = residuals_.current(first * rows);
    const std::vector<int32_t> positions = repeat(chunk.positions, count, 0);
    layers_.keys_values(layer, residual, count * rows, positions.data(), k_.as<float>(), v_.as<float>());
    if (!last) {
      expand(chunk.all, count, rows, rows, k_.as<float>(), v_.as<float>(), kv_width, &runs_, &spans_);
      layers_.attend(layer, nullptr, count * rows, positions.data(), runs_, spans_, residual);
      return;
    }
    if (wanted == 0) return;
    expand(chunk.last, count, rows, wanted, k_.as<float>(), v_.as<float>(), kv_width, &runs_, &spans_);
    const std::vector<int32_t> index = repeat(chunk.wanted, count, static_cast<int32_t>(rows));
    std::vector<int32_t> in_stream = index;
    for (int32_t& row : in_stream) row += static_cast<int32_t>(first * rows);
    residuals_.gather_rows(in_stream, first * wanted);
    const std::vector<int32_t> wanted_positions = repeat(chunk.wanted_positions, count, 0);
    layers_.attend(layer, index.data(), count * wanted, wanted_positions.data(), runs_, spans_,
                   residuals_.other(first * wanted));
  });
  if (last && wanted > 0) residuals_.swap();
}

void ChunkPass::begin_merging(int64_t layer) {
  // In the order in which split() makes streams and mixture() takes them.
  RowsToMerge rows(merged_.slots(), config_.num_experts);
  for (const Stream& stream : streams_) {
    for (size_t candidate : stream.candidates) {
      if (!rows.add(variants_.at(layer, variants_.index(layer, candidate)))) break;
    }
  }
  if (!rows.list().empty()) merged_.begin(layer, rows.list());
}

void ChunkPass::merge_ahead(int64_t layer, const Split& split, int64_t first) {
  RowsToMerge rows(merged_.slots(), config_.num_experts);
  for (size_t stream = static_cast<size_t>(first); stream < split.variant.size(); ++stream) {
    if (!rows.add(variants_.at(layer, split.variant[stream]))) break;
  }
  merged_.merge(layer, rows.list());
}

// Splits every stream by the variant that its candidates have in this layer.
ChunkPass::Split ChunkPass::split(int64_t layer, int64_t rows) {
  std::vector<Stream> children;
  Split result;
  for (size_t parent = 0; parent < streams_.size(); ++parent) {
    std::map<int32_t, size_t> child_of_variant;
    for (size_t candidate : streams_[parent].candidates) {
      const int32_t variant = variants_.index(layer, candidate);
      const auto [entry, inserted] = child_of_variant.try_emplace(variant, children.size());
      if (inserted) {
        children.emplace_back();
        result.variant.push_back(variant);
        result.parent.push_back(static_cast<int32_t>(parent));
      }
      children[entry->second].candidates.push_back(candidate);
    }
  }
  if (children.size() > streams_.size() && rows > 0) {
    for (size_t child = 0; child < children.size(); ++child) {
      residuals_.copy_rows(result.parent[child] * rows, static_cast<int64_t>(child) * rows, rows);
    }
    residuals_.swap();
  }
  streams_ = std::move(children);
  return result;
}

void ChunkPass::mixture(int64_t layer, int64_t rows, const Split& split, MixtureObserver* observer) {
  const int64_t streams = static_cast<int64_t>(streams_.size());
  for (int64_t first = 0; first < streams;) {
    // Whole streams until the block is full, or the merge buffer would be.
    MixtureBlock block;
    std::vector<const LayerVariant*> variants;
    std::map<int32_t, int32_t> local;
    variant_of_row_.clear();
    source_row_.clear();
    const int32_t first_parent = split.parent[static_cast<size_t>(first)];
    int32_t parents = 0;
    int64_t count = 0, merged_rows = 0;
    while (first + count < streams && (count == 0 || (count + 1) * rows <= plan_.block_rows)) {
      const int32_t variant = split.variant[static_cast<size_t>(first + count)];
      // Children of one parent are neighbours.
      const int32_t parent = split.parent[static_cast<size_t>(first + count)] - first_parent;
      const bool fresh = local.count(variant) == 0;
      const int64_t merged_with =
          merged_rows + (fresh ? int64_t{variants_.at(layer, variant).merged_rows()} : 0);
      if (count > 0 && fresh && merged_with > merged_.slots()) break;
      if (parent < count && !layers_.shares((parent + 1) * rows, merged_with)) break;
      if (fresh) {
        const LayerVariant& setting = variants_.at(layer, variant);
        merged_rows = merged_with;
        local[variant] = static_cast<int32_t>(variants.size());
        variants.push_back(&setting);
      }
      variant_of_row_.insert(variant_of_row_.end(), static_cast<size_t>(rows), local[variant]);
      parents = parent + 1;
      for (int64_t row = 0; row < rows; ++row) {
        source_row_.push_back(static_cast<int32_t>(parent * rows + row));
      }
      ++count;
    }
    block.residual = residuals_.current(first * rows);
    block.rows = count * rows;
    block.variants = variants;
    block.variant_of_row = variants.size() == 1 ? nullptr : variant_of_row_.data();
    if (parents < count) {
      block.source_row = source_row_.data();
      block.sources = static_cast<int32_t>(parents * rows);
    }
    const bool held = std::all_of(variants.begin(), variants.end(), [&](const LayerVariant* variant) {
      return std::all_of(variant->merged_id.begin(), variant->merged_id.end(),
                         [&](int32_t id) { return id < 0 || merged_.holds(layer, id); });
    });
    if (!held) merge_ahead(layer, split, first);
    layers_.mixture(layer, block, merged_, observer);
    first += count;
  }
}

}  // namespace eep
