// Scoring: all candidates advance through layer l together. Candidates that agree on every layer so far are
// one residual stream; a stream splits where their plans part. The last layer finishes the scored rows alone.
#include "engine/forward.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string>

#include "engine/forward_state.h"
#include "engine/prompt_chunks.h"
#include "kernels/error.h"

namespace eep {
namespace {

struct Stream {
  std::vector<size_t> candidates;
};

// The residual streams of a chunk: [streams, rows, hidden] in one of two buffers, so that a split or the last
// layer's compaction copies from one to the other.
class Residuals {
 public:
  Residuals(int64_t capacity_rows, int64_t hidden) : hidden_(hidden) {
    for (Buffer& buffer : buffers_) {
      buffer = Buffer(static_cast<size_t>(capacity_rows * hidden) * sizeof(float));
    }
  }
  float* current() { return buffers_[active_].as<float>(); }
  float* other() { return buffers_[1 - active_].as<float>(); }
  void swap() { active_ = 1 - active_; }
  void copy_rows(int64_t from, int64_t to, int64_t rows) {  // current -> other
    std::memcpy(other() + to * hidden_, current() + from * hidden_,
                static_cast<size_t>(rows * hidden_) * sizeof(float));
  }

 private:
  Buffer buffers_[2];
  int64_t hidden_;
  size_t active_ = 0;
};

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

template <typename T>
std::vector<T> repeat(const std::vector<T>& values, int64_t count, T step) {
  std::vector<T> out;
  out.reserve(values.size() * static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    for (const T& value : values) out.push_back(value + static_cast<T>(i) * step);
  }
  return out;
}

MemoryRequest request_for(const LayerVariants& variants, size_t candidates, const Prompts& prompts,
                          size_t budget) {
  MemoryRequest request;
  request.budget = budget;
  request.rows = prompts.rows();
  request.largest_tree = largest_tree_rows(prompts);
  request.wanted = static_cast<int64_t>(prompts.scores.size());
  request.candidates = static_cast<int32_t>(candidates);
  request.dense_experts = variants.most_merged_rows();
  request.slots = variants.slots();
  return request;
}

// One chunk of prompts through all layers for one batch of candidates.
class ChunkPass {
 public:
  ChunkPass(const Weights& weights, const Ops& ops, const Device& device, const LayerVariants& variants,
            const MemoryPlan& plan, LayerPass& layers, MergeBuffer& merged, WorkCounts& work)
      : weights_(weights),
        config_(weights.config()),
        ops_(ops),
        device_(device),
        variants_(variants),
        plan_(plan),
        layers_(layers),
        merged_(merged),
        work_(work),
        residuals_(plan.chunk_rows * plan.candidates, config_.hidden_size) {
    const int64_t kv_width = config_.num_kv_heads * config_.head_dim;
    k_ = Buffer(static_cast<size_t>(plan.block_rows * kv_width) * sizeof(float));
    v_ = Buffer(static_cast<size_t>(plan.block_rows * kv_width) * sizeof(float));
  }

  // Afterwards streams() share the rows chunk.wanted, which lie in residual().
  void run(const PromptChunk& chunk, std::span<const size_t> candidates, MixtureObserver* observer) {
    streams_.assign(1, Stream{{candidates.begin(), candidates.end()}});
    ops_.embed({weights_.embedding(), chunk.tokens.data(), chunk.rows, residuals_.current()}, device_);
    for (int64_t layer = 0; layer < config_.num_layers; ++layer) {
      const bool last = layer + 1 == config_.num_layers;
      attention(layer, chunk, last);
      const int64_t rows = last ? static_cast<int64_t>(chunk.wanted.size()) : chunk.rows;
      if (rows == 0) continue;
      if (config_.sparse[static_cast<size_t>(layer)] != 0) {
        const std::vector<int32_t> variant_of_stream = split(layer, rows);
        mixture(layer, rows, variant_of_stream, observer);
      } else {
        for_blocks(rows, [&](int64_t first, int64_t count) {
          layers_.dense(layer, residuals_.current() + first * rows * config_.hidden_size, count * rows);
        });
      }
      computed_row_layers_ += rows * static_cast<int64_t>(streams_.size());
    }
  }

  const std::vector<Stream>& streams() const { return streams_; }
  float* residual() { return residuals_.current(); }
  int64_t computed_row_layers() const { return computed_row_layers_; }

 private:
  // Calls body(first stream, stream count) for blocks of whole streams of `rows` rows each.
  template <typename Body>
  void for_blocks(int64_t rows, const Body& body) {
    const int64_t streams = static_cast<int64_t>(streams_.size());
    const int64_t step = std::max<int64_t>(1, plan_.block_rows / std::max<int64_t>(rows, 1));
    for (int64_t first = 0; first < streams; first += step) body(first, std::min(step, streams - first));
  }

  void attention(int64_t layer, const PromptChunk& chunk, bool last) {
    const int64_t hidden = config_.hidden_size, kv_width = config_.num_kv_heads * config_.head_dim;
    const int64_t rows = chunk.rows, wanted = static_cast<int64_t>(chunk.wanted.size());
    for_blocks(rows, [&](int64_t first, int64_t count) {
      float* residual = residuals_.current() + first * rows * hidden;
      const std::vector<int32_t> positions = repeat(chunk.positions, count, 0);
      layers_.keys_values(layer, residual, count * rows, positions.data(), k_.as<float>(), v_.as<float>());
      if (!last) {
        expand(chunk.all, count, rows, rows, k_.as<float>(), v_.as<float>(), kv_width, &runs_, &spans_);
        layers_.attend(layer, nullptr, count * rows, positions.data(), runs_, spans_, residual);
        return;
      }
      if (wanted == 0) return;
      expand(chunk.last, count, rows, wanted, k_.as<float>(), v_.as<float>(), kv_width, &runs_, &spans_);
      for (int64_t stream = first; stream < first + count; ++stream) {
        for (int64_t i = 0; i < wanted; ++i) {
          residuals_.copy_rows(stream * rows + chunk.wanted[static_cast<size_t>(i)], stream * wanted + i, 1);
        }
      }
      const std::vector<int32_t> index = repeat(chunk.wanted, count, static_cast<int32_t>(rows));
      const std::vector<int32_t> wanted_positions = repeat(chunk.wanted_positions, count, 0);
      layers_.attend(layer, index.data(), count * wanted, wanted_positions.data(), runs_, spans_,
                     residuals_.other() + first * wanted * hidden);
    });
    if (last && wanted > 0) residuals_.swap();
  }

  // Splits every stream by the variant that its candidates have in this layer. Returns each new stream's
  // variant.
  std::vector<int32_t> split(int64_t layer, int64_t rows) {
    std::vector<Stream> children;
    std::vector<int32_t> variant_of_stream;
    std::vector<size_t> parent_of;
    for (size_t parent = 0; parent < streams_.size(); ++parent) {
      std::map<int32_t, size_t> child_of_variant;
      for (size_t candidate : streams_[parent].candidates) {
        const int32_t variant = variants_.index(layer, candidate);
        const auto [entry, inserted] = child_of_variant.try_emplace(variant, children.size());
        if (inserted) {
          children.emplace_back();
          variant_of_stream.push_back(variant);
          parent_of.push_back(parent);
        }
        children[entry->second].candidates.push_back(candidate);
      }
    }
    if (children.size() > streams_.size()) {
      for (size_t child = 0; child < children.size(); ++child) {
        residuals_.copy_rows(static_cast<int64_t>(parent_of[child]) * rows,
                             static_cast<int64_t>(child) * rows, rows);
      }
      residuals_.swap();
    }
    streams_ = std::move(children);
    return variant_of_stream;
  }

  void mixture(int64_t layer, int64_t rows, const std::vector<int32_t>& variant_of_stream,
               MixtureObserver* observer) {
    const int64_t streams = static_cast<int64_t>(streams_.size());
    for (int64_t first = 0; first < streams;) {
      // Whole streams until the block is full, or the merge buffer would be.
      MixtureBlock block;
      std::vector<const LayerVariant*> variants;
      std::map<int32_t, int32_t> local;
      variant_of_row_.clear();
      int64_t count = 0, merged_rows = 0;
      while (first + count < streams && (count == 0 || (count + 1) * rows <= plan_.block_rows)) {
        const int32_t variant = variant_of_stream[static_cast<size_t>(first + count)];
        if (local.count(variant) == 0) {
          const LayerVariant& setting = variants_.at(layer, variant);
          if (count > 0 && merged_rows + setting.merged_rows() > merged_.slots()) break;
          merged_rows += setting.merged_rows();
          local[variant] = static_cast<int32_t>(variants.size());
          variants.push_back(&setting);
        }
        variant_of_row_.insert(variant_of_row_.end(), static_cast<size_t>(rows), local[variant]);
        ++count;
      }
      block.residual = residuals_.current() + first * rows * config_.hidden_size;
      block.rows = count * rows;
      block.variants = variants;
      block.variant_of_row = variants.size() == 1 ? nullptr : variant_of_row_.data();
      layers_.mixture(layer, block, merged_, &work_.router, observer);
      first += count;
    }
  }

  const Weights& weights_;
  const ModelConfig& config_;
  const Ops& ops_;
  Device device_;
  const LayerVariants& variants_;
  const MemoryPlan& plan_;
  LayerPass& layers_;
  MergeBuffer& merged_;
  WorkCounts& work_;
  Residuals residuals_;
  Buffer k_, v_;
  std::vector<Stream> streams_;
  std::vector<AttentionRun> runs_;
  std::vector<KvSpan> spans_;
  std::vector<int32_t> variant_of_row_;
  int64_t computed_row_layers_ = 0;
};

int64_t positions_needed(const Prompts& prompts) {
  int64_t longest = 0;
  for (int32_t position : prompts.positions) longest = std::max<int64_t>(longest, position + 1);
  return longest;
}

}  // namespace

WorkCounts& WorkCounts::operator+=(const WorkCounts& other) {
  tokens_computed += other.tokens_computed;
  tokens_asked += other.tokens_asked;
  merged_experts += other.merged_experts;
  decode_steps += other.decode_steps;
  router.tiny_sums += other.router.tiny_sums;
  router.negative_sums += other.router.negative_sums;
  return *this;
}

PopulationForward::PopulationForward(const Weights& weights, const Ops& ops, const Device& device,
                                     size_t memory_budget)
    : state_(std::make_unique<State>(weights, ops, device, memory_budget)) {}
PopulationForward::~PopulationForward() = default;

const WorkCounts& PopulationForward::work() const { return state_->work; }
void PopulationForward::reset_work() { state_->work = {}; }

void PopulationForward::State::check_tokens(std::span<const int32_t> tokens, int64_t longest) const {
  for (int32_t token : tokens) {
    if (token < 0 || token >= config.vocab_size) {
      throw Error(ExitCode::kData, "token",
                  "id outside the vocabulary (expected 0.." + std::to_string(config.vocab_size - 1) +
                      ", got " + std::to_string(token) + ")");
    }
  }
  if (longest > config.max_positions) {
    throw Error(ExitCode::kData, "prompt",
                "sequence too long for the model (expected at most " + std::to_string(config.max_positions) +
                    " tokens, got " + std::to_string(longest) + ")");
  }
}

MemoryPlan PopulationForward::memory_plan(std::span<const ExpertPlan> plans, const Prompts& prompts) const {
  const LayerVariants variants(state_->config, plans);
  return plan_memory(state_->config, state_->ops,
                     request_for(variants, plans.size(), prompts, state_->memory_budget));
}

std::vector<std::vector<TokenScore>> PopulationForward::score(std::span<const ExpertPlan> plans,
                                                              const Prompts& prompts) {
  State& state = *state_;
  std::vector<std::vector<TokenScore>> result(plans.size(), std::vector<TokenScore>(prompts.scores.size()));
  if (plans.empty() || prompts.rows() == 0) return result;
  const int64_t longest = positions_needed(prompts);
  state.check_tokens(prompts.tokens, longest);

  const LayerVariants variants(state.config, plans);
  const MemoryPlan plan =
      plan_memory(state.config, state.ops, request_for(variants, plans.size(), prompts, state.memory_budget));
  LayerPass layers(state.weights, state.ops, state.device, plan.block_rows, variants.slots(), longest);
  MergeBuffer merged(state.weights, state.ops, state.device, plan.merged_experts);
  ChunkPass pass(state.weights, state.ops, state.device, variants, plan, layers, merged, state.work);

  std::vector<TokenScore> scores;
  for (size_t begin = 0; begin < plans.size(); begin += static_cast<size_t>(plan.candidates)) {
    std::vector<size_t> candidates;
    for (size_t i = begin; i < std::min(plans.size(), begin + static_cast<size_t>(plan.candidates)); ++i) {
      candidates.push_back(i);
    }
    for (const PromptChunk& chunk : cut_prompts(prompts, plan.chunk_rows)) {
      if (chunk.scores == 0) continue;
      pass.run(chunk, candidates, nullptr);
      const int64_t wanted = static_cast<int64_t>(chunk.wanted.size());
      scores.resize(static_cast<size_t>(chunk.scores));
      for (size_t stream = 0; stream < pass.streams().size(); ++stream) {
        layers.score(pass.residual() + static_cast<int64_t>(stream) * wanted * state.config.hidden_size,
                     wanted, chunk.wanted_of_score, chunk.targets, scores.data());
        for (size_t candidate : pass.streams()[stream].candidates) {
          std::copy(scores.begin(), scores.end(), result[candidate].begin() + chunk.score_begin);
        }
      }
    }
  }
  state.work.tokens_computed += pass.computed_row_layers() / state.config.num_layers;
  state.work.tokens_asked += static_cast<int64_t>(plans.size()) * prompts.tokens_without_sharing;
  state.work.merged_experts += merged.merged_count();
  return result;
}

std::vector<float> PopulationForward::logits(const ExpertPlan& plan, std::span<const int32_t> tokens) {
  State& state = *state_;
  PromptBuilder builder;
  builder.add(tokens, 1, /*predict_next=*/true);
  const Prompts prompts = builder.build(nullptr);
  state.check_tokens(tokens, positions_needed(prompts));
  const std::span<const ExpertPlan> plans(&plan, 1);
  const LayerVariants variants(state.config, plans);
  const MemoryPlan memory =
      plan_memory(state.config, state.ops, request_for(variants, 1, prompts, state.memory_budget));
  LayerPass layers(state.weights, state.ops, state.device, memory.block_rows, variants.slots(),
                   prompts.rows());
  MergeBuffer merged(state.weights, state.ops, state.device, memory.merged_experts);
  ChunkPass pass(state.weights, state.ops, state.device, variants, memory, layers, merged, state.work);
  const std::vector<PromptChunk> chunks = cut_prompts(prompts, memory.chunk_rows);
  const size_t only[] = {0};
  pass.run(chunks.at(0), only, nullptr);
  std::vector<float> out(tokens.size() * static_cast<size_t>(state.config.vocab_size));
  layers.logits(pass.residual(), static_cast<int64_t>(tokens.size()), out.data());
  return out;
}

}  // namespace eep
