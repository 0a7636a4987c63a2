// Scoring: all candidates advance through layer l together. Candidates that agree on every layer so far are
// one residual stream; a stream splits where their plans part. The last layer finishes the scored rows alone.
#include "engine/forward.h"

#include <algorithm>
#include <string>

#include "engine/forward_state.h"
#include "engine/scoring.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

// Of C chunks K stages wait for (K - 1) / (C + K - 1) of their time: a ninth of it with two and this many for
// each.
constexpr int64_t kChunksOfStage = 4;

int64_t positions_needed(const Prompts& prompts) {
  int64_t longest = 0;
  for (int32_t position : prompts.positions) longest = std::max<int64_t>(longest, position + 1);
  return longest;
}

}  // namespace

MemoryPlan PopulationForward::State::plan(const LayerVariants& variants, size_t candidates,
                                          const Prompts& prompts, int stages) const {
  if (stages == 0) stages = weights.link() != nullptr ? weights.link()->stages() : 1;
  MemoryRequest request = request_for(weights, memory_budget);
  request.rows = prompts.rows();
  request.largest_tree = largest_tree_rows(prompts);
  if (stages > 1)  // or they would wait for each other
    request.rows = std::max(request.largest_tree, ceil_div(request.rows, kChunksOfStage * stages));
  request.positions = positions_needed(prompts);
  request.candidates = static_cast<int32_t>(candidates);
  request.dense_experts = variants.most_merged_rows();
  request.slots = variants.slots();
  MemoryPlan plan = plan_memory(weights, request);
  if (stages > 1) {  // prompts that share their first token are not cut, plans are
    const int64_t chunks = ceil_div(prompts.rows(), plan.chunk_rows);
    const int64_t batches = ceil_div(kChunksOfStage * stages, chunks);
    const auto most = static_cast<int32_t>(ceil_div(static_cast<int64_t>(candidates), batches));
    plan.candidates = std::clamp(most, 1, plan.candidates);
  }
  return plan;
}

WorkCounts& WorkCounts::operator+=(const WorkCounts& other) {
  tokens_computed += other.tokens_computed;
  tokens_asked += other.tokens_asked;
  merged_experts += other.merged_experts;
  merge_bytes += other.merge_bytes;
  expert_bytes += other.expert_bytes;
  tokens_kept += other.tokens_kept;
  decode_steps += other.decode_steps;
  drafted += other.drafted;
  accepted += other.accepted;
  router.tiny_sums += other.router.tiny_sums;
  router.negative_sums += other.router.negative_sums;
  return *this;
}

PopulationForward::PopulationForward(const Weights& weights, size_t memory_budget)
    : state_(std::make_unique<State>(weights, memory_budget)) {}
PopulationForward::~PopulationForward() = default;

const WorkCounts& PopulationForward::work() const { return state_->work; }
void PopulationForward::reset_work() { state_->work = {}; }
void PopulationForward::set_progress(std::function<void(double share)> progress) {
  state_->progress = std::move(progress);
}

void PopulationForward::keep_layers(size_t bytes) {
  if (state_->weights.link() != nullptr) bytes = 0;  // other stages would keep other rows
  state_->most_kept = bytes;
  if (bytes == 0) {
    state_->kept.reset();
  } else if (!state_->kept) {
    state_->kept.emplace(state_->weights.backend());
  }
}

void PopulationForward::State::check_tokens(std::span<const int32_t> tokens, int64_t longest) const {
  for (int32_t token : tokens) {
    if (token < 0 || token >= config.vocab_size) {
      throw Error(
          ExitCode::kData, "token",
          "id outside the vocabulary" + expected_got("0.." + std::to_string(config.vocab_size - 1), token));
    }
  }
  if (longest > config.max_positions) {
    throw Error(ExitCode::kData, "prompt",
                "sequence too long for the model" +
                    expected_got("at most " + std::to_string(config.max_positions) + " tokens", longest));
  }
}

MemoryPlan PopulationForward::memory_plan(std::span<const ExpertPlan> plans, const Prompts& prompts,
                                          int stages) const {
  const LayerVariants variants(state_->config, plans);
  return state_->plan(variants, plans.size(), prompts, stages);
}

std::vector<std::vector<TokenScore>> PopulationForward::score(std::span<const ExpertPlan> plans,
                                                              const Prompts& prompts, ScoreKeeper* keeper) {
  State& state = *state_;
  std::vector<std::vector<TokenScore>> result(plans.size(), std::vector<TokenScore>(prompts.scores.size()));
  if (plans.empty() || prompts.rows() == 0) return result;
  state.check_tokens(prompts.tokens, positions_needed(prompts));

  const LayerVariants variants(state.config, plans);
  const MemoryPlan plan = state.plan(variants, plans.size(), prompts);
  Scoring scoring(state.weights, variants, plan, prompts, plans.size(), state.work);
  std::optional<PlanPrefixes> prefixes;
  if (state.kept) {
    const size_t left = plan.budget == 0 ? state.most_kept : plan.budget - plan.total();
    state.kept->begin_pass(std::min(state.most_kept, left));
    prefixes.emplace(state.config.sparse, plans);
    scoring.pass().keep_in(&*state.kept, &*prefixes);
  }
  if (state.weights.link() != nullptr)
    state.weights.link()->announce({StageCall::Kind::kScore, plans, &prompts, nullptr});
  scoring.lead(keeper, state.progress, &result);
  scoring.count();
  state.work.tokens_asked += static_cast<int64_t>(plans.size()) * prompts.tokens_without_sharing;
  return result;
}

void PopulationForward::follow(const StageCall& call) {
  State& state = *state_;
  if (call.kind == StageCall::Kind::kGenerate) return follow_generation(call.plans);
  const LayerVariants variants(state.config, call.plans);
  const MemoryPlan plan = state.plan(variants, call.plans.size(), *call.prompts);
  Scoring scoring(state.weights, variants, plan, *call.prompts, call.plans.size(), state.work);
  scoring.follow();
  scoring.count();
}

std::vector<float> PopulationForward::logits(const ExpertPlan& plan, std::span<const int32_t> tokens,
                                             Taps* taps) {
  State& state = *state_;
  PromptBuilder builder;
  builder.add(tokens, 1, /*predict_next=*/true);
  const Prompts prompts = builder.build(nullptr);
  state.check_tokens(tokens, positions_needed(prompts));
  const std::span<const ExpertPlan> plans(&plan, 1);
  const LayerVariants variants(state.config, plans);
  const MemoryPlan memory = state.plan(variants, 1, prompts);
  ChunkPass pass(state.weights, variants, memory, state.work);
  pass.layers().set_taps(taps);
  const std::vector<PromptChunk> chunks = cut_prompts(prompts, memory.chunk_rows);
  const size_t only[] = {0};
  pass.run(chunks.at(0), only, nullptr);
  std::vector<float> out(tokens.size() * static_cast<size_t>(state.config.vocab_size));
  pass.layers().logits(pass.residual(), static_cast<int64_t>(tokens.size()), out.data());
  return out;
}

}  // namespace eep
