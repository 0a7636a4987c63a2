// Greedy decoding with a KV cache for populations. A lane is one sequence of one candidate; a step takes the
// next rows of many lanes (a piece of a prompt, or one generated token each) through all layers together, so
// candidates share every read of a base expert. Prompts are taken in pieces that fit the memory plan.
//
// A lane's next token may bring a draft of those to come (DraftFunction): the step computes all of them, and
// each stands iff the arg-max before it agrees. Keys and values of the others are overwritten.
//
// Of several stages (stages.h) the first one decides and embeds; each has the cache of its own layers. A
// step's lanes go in as many passes as there are stages, so that all of them work.
#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <map>
#include <string>

#include "engine/chunk_pass.h"
#include "engine/decode_plan.h"
#include "engine/forward.h"
#include "engine/forward_state.h"
#include "engine/layer_mark.h"
#include "engine/layer_pass.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/interrupt.h"

namespace eep {
namespace {

constexpr int32_t kLost = -1;  // predicted by logits that are no numbers

struct Lane {
  int64_t id = 0;
  int32_t candidate = 0;
  int32_t sequence = 0;
  std::vector<int32_t> tokens;  // prompt, then what was generated
  size_t prompt_size = 0;
  size_t cached = 0;  // tokens whose keys and values are in the cache
  size_t capacity = 0;
  size_t draft_limit = 32;         // tokens of the next draft, less where drafts fail
  std::vector<int32_t> draft;      // behind tokens, in the step to come
  std::vector<int32_t> predicted;  // by the last step, not yet among tokens
  DeviceBuffer cache;              // [layers of the stage, 2 (k, v), capacity, kv_heads * head_dim]

  int32_t token(size_t position) const {
    return position < tokens.size() ? tokens[position] : draft[position - tokens.size()];
  }
};

// Rows of one lane in a step: positions begin .. begin + count - 1, of tokens and then of the draft.
struct Piece {
  Lane* lane;
  size_t begin, count;
  size_t predictions = 0;  // last positions whose next token is wanted

  Piece(Lane* of, size_t first, size_t rows, size_t wanted)
      : lane(of), begin(first), count(rows), predictions(wanted) {}
  // Wanted are those behind the last token, and behind each of the draft.
  Piece(Lane* of, size_t first, size_t rows) : Piece(of, first, rows, 0) {
    const size_t end = begin + count, known = lane->tokens.size();
    if (end >= known) predictions = end - known + 1;
  }
};

// What goes ahead of a step's rows: these numbers, ids of lanes that have ended, then six numbers a piece.
enum StepHeader : size_t { kStep, kTinySums, kNegativeSums, kEnded, kPieces, kHeader };
constexpr int64_t kNoMoreSteps = -1;

class Decoder {
 public:
  Decoder(const Weights& weights, const LayerVariants& variants, const LayerLimits& limits,
          int64_t merged_slots, bool ends_lost, WorkCounts& work)
      : weights_(weights),
        config_(weights.config()),
        ops_(weights.ops()),
        device_(weights.device()),
        variants_(variants),
        own_(weights.layers()),
        link_(weights.link()),
        kv_width_(config_.num_kv_heads * config_.head_dim),
        block_rows_(limits.block_rows),
        layers_(weights, limits),
        merged_(weights, merged_slots),
        ends_lost_(ends_lost),
        work_(work) {
    const auto floats = [&](int64_t count) {
      return DeviceBuffer(weights.backend(), static_cast<size_t>(count) * sizeof(float));
    };
    residual_ = floats(block_rows_ * config_.hidden_size);
    wanted_residual_ = floats(block_rows_ * config_.hidden_size);
    k_ = floats(block_rows_ * kv_width_);
    v_ = floats(block_rows_ * kv_width_);
  }

  ~Decoder() {
    if (link_ != nullptr) link_->await_rows();
  }

  const LayerPass& layers() const { return layers_; }
  const MergeBuffer& merged() const { return merged_; }

  // One step of every lane, in as many passes as their rows need.
  void advance(const std::vector<Lane*>& live, const DraftFunction& draft) {
    std::vector<Piece> pieces;
    const int64_t most = rows_of_pass(live);
    int64_t rows = 0;
    for (Lane* lane : live) {
      const int64_t due = static_cast<int64_t>(lane->tokens.size() - lane->cached);
      int64_t count = std::min(due, most - rows);
      if (draft && count == due) count += take_draft(*lane, draft, most - rows - due);
      if (count > 0) pieces.push_back({lane, lane->cached, static_cast<size_t>(count)});
      rows += count;
      if (rows == most) {
        step(std::move(pieces));
        pieces.clear();
        rows = 0;
      }
    }
    if (!pieces.empty()) step(std::move(pieces));
    while (!under_way_.empty()) take_back();
  }

  // The lane's cache is not needed any more.
  void end(Lane& lane) {
    lane.cache = DeviceBuffer();
    if (link_ != nullptr) ended_.push_back(lane.id);
  }

  // Other stages: steps as the first one tells, until it says that there are no more.
  void follow() {
    std::map<int64_t, Lane> lanes;
    for (;;) {
      const std::string message = link_->receive(link_->stage() - 1);
      std::vector<int64_t> header = take_header(message);
      if (header.at(kStep) == kNoMoreSteps) {
        if (!link_->last()) link_->send(link_->stage() + 1, message);
        return;
      }
      const std::vector<Piece> pieces = told_pieces(header, &lanes);
      const RouterCounts before = work_.router;
      run_own_layers(pieces);
      header[kTinySums] += work_.router.tiny_sums - before.tiny_sums;
      header[kNegativeSums] += work_.router.negative_sums - before.negative_sums;
      if (!link_->last()) {
        send_rows(header);
        continue;
      }
      const std::vector<TokenScore> best = predictions();
      link_->send(0, header_message(header) + bytes_of(std::span<const TokenScore>(best)));
    }
  }
  void end_followers() {
    std::vector<int64_t> header(kHeader, 0);
    header[kStep] = kNoMoreSteps;
    link_->send(1, header_message(header));
  }

 private:
  // Of several stages each has a part of the lanes.
  int64_t rows_of_pass(const std::vector<Lane*>& live) const {
    if (link_ == nullptr) return block_rows_;
    int64_t due = 0;
    for (const Lane* lane : live) due += static_cast<int64_t>(lane->tokens.size() - lane->cached);
    return std::clamp<int64_t>(ceil_div(due, int64_t{link_->stages()}), 1, block_rows_);
  }

  // Takes the pieces (sorted by candidate, at most block_rows rows) through all layers. A lane whose
  // prediction is due has it in `predicted`, with those of the right tokens of its draft.
  void step(std::vector<Piece> pieces) {
    run_own_layers(pieces);
    for (const Piece& piece : pieces)
      piece.lane->cached = std::min(piece.begin + piece.count, piece.lane->tokens.size());
    work_.tokens_computed += static_cast<int64_t>(positions_.size());
    if (link_ == nullptr) return take(pieces, predictions());
    send_rows(header_of(pieces));
    ended_.clear();
    under_way_.push_back(std::move(pieces));
    if (under_way_.size() >= static_cast<size_t>(link_->stages())) take_back();
  }

  // A stage that is not the first receives the rows from the one before it.
  void run_own_layers(const std::vector<Piece>& pieces) {
    if (link_ != nullptr) link_->await_rows();  // of the pass before
    gather(pieces);
    const int64_t rows = static_cast<int64_t>(positions_.size());
    if (own_.begin == 0) {
      ops_.embed({weights_.embedding(), tokens_.data(), rows, residual_.as<float>()}, device_);
    } else {
      link_->receive_rows(link_->stage() - 1, residual_.as<float>(), rows * config_.hidden_size);
    }
    for (int64_t layer = own_.begin; layer < own_.end; ++layer) {
      check_interrupted();
      in_layer(layer, [&] { run_layer(layer, pieces); });
    }
    const RouterCounts counts = layers_.take_counts();
    work_.router.tiny_sums += counts.tiny_sums;
    work_.router.negative_sums += counts.negative_sums;
  }

  void send_rows(std::span<const int64_t> header) {
    const int64_t floats = static_cast<int64_t>(positions_.size()) * config_.hidden_size;
    link_->send(link_->stage() + 1, header_message(header));
    link_->send_rows(link_->stage() + 1, residual_.as<float>(), floats);
  }

  std::vector<int64_t> header_of(const std::vector<Piece>& pieces) const {
    std::vector<int64_t> header(kHeader, 0);
    header[kEnded] = static_cast<int64_t>(ended_.size());
    header[kPieces] = static_cast<int64_t>(pieces.size());
    header.insert(header.end(), ended_.begin(), ended_.end());
    for (const Piece& piece : pieces) {
      for (const size_t value :
           {static_cast<size_t>(piece.lane->id), static_cast<size_t>(piece.lane->candidate),
            piece.lane->capacity, piece.begin, piece.count, piece.predictions})
        header.push_back(static_cast<int64_t>(value));
    }
    return header;
  }

  std::vector<Piece> told_pieces(const std::vector<int64_t>& header, std::map<int64_t, Lane>* lanes) const {
    size_t at = kHeader;
    for (int64_t ended = header.at(kEnded); ended > 0; --ended) lanes->erase(header.at(at++));
    std::vector<Piece> pieces;
    for (int64_t count = header.at(kPieces); count > 0; --count, at += 6) {
      Lane& lane = (*lanes)[header.at(at)];
      lane.candidate = static_cast<int32_t>(header.at(at + 1));
      lane.capacity = static_cast<size_t>(header.at(at + 2));
      if (lane.cache.bytes() == 0)
        lane.cache = DeviceBuffer(weights_.backend(), row_cache_bytes() * lane.capacity);
      pieces.push_back({&lane, static_cast<size_t>(header.at(at + 3)), static_cast<size_t>(header.at(at + 4)),
                        static_cast<size_t>(header.at(at + 5))});
    }
    return pieces;
  }

  // The predictions of the pass that was sent first.
  void take_back() {
    const std::string message = link_->receive(link_->stages() - 1);
    const std::vector<int64_t> header = take_header(message);
    work_.router.tiny_sums += header.at(kTinySums);
    work_.router.negative_sums += header.at(kNegativeSums);
    std::vector<Piece> pieces = std::move(under_way_.front());
    under_way_.pop_front();
    take(pieces, values_of<TokenScore>(after_header(message)));
  }

  // The draft of a lane, at most `room` tokens; its length. What lies beyond the cache, or is no token of the
  // vocabulary, is left out.
  int64_t take_draft(Lane& lane, const DraftFunction& draft, int64_t room) {
    const auto made = std::span(lane.tokens).subspan(lane.prompt_size);
    const std::span<const int32_t> guess = draft(lane.candidate, lane.sequence, made);
    const size_t beyond = lane.capacity > lane.tokens.size() ? lane.capacity - lane.tokens.size() : 0;
    const size_t most = std::min({guess.size(), lane.draft_limit, beyond, static_cast<size_t>(room)});
    for (size_t i = 0; i < most && guess[i] >= 0 && guess[i] < config_.vocab_size; ++i)
      lane.draft.push_back(guess[i]);
    return static_cast<int64_t>(lane.draft.size());
  }

  void run_layer(int64_t layer, const std::vector<Piece>& pieces) {
    const LayerMark mark(weights_.backend(), layer);
    const int64_t rows = static_cast<int64_t>(positions_.size()),
                  wanted = static_cast<int64_t>(wanted_.size());
    layers_.keys_values(layer, residual_.as<float>(), rows, positions_.data(), k_.as<float>(),
                        v_.as<float>());
    store(layer, pieces);
    if (layer + 1 < config_.num_layers) {
      attention_runs(layer, pieces, false);
      layers_.attend(layer, nullptr, rows, positions_.data(), runs_, spans_, residual_.as<float>());
      feed_forward(layer, residual_.as<float>(), candidate_of_row_);
      return;
    }
    if (wanted == 0) return;
    attention_runs(layer, pieces, true);
    float* compact = wanted_residual_.as<float>();
    const Tensor all(residual_.data(), DType::kF32, {rows, config_.hidden_size});
    ops_.embed({all, wanted_.data(), wanted, compact}, device_);  // the wanted rows
    layers_.attend(layer, wanted_.data(), wanted, wanted_positions_.data(), runs_, spans_, compact);
    feed_forward(layer, compact, wanted_candidate_);
  }

  void gather(const std::vector<Piece>& pieces) {
    for (auto* list :
         {&tokens_, &positions_, &candidate_of_row_, &wanted_, &wanted_positions_, &wanted_candidate_}) {
      list->clear();
    }
    for (const Piece& piece : pieces) {
      for (size_t position = piece.begin; position < piece.begin + piece.count; ++position) {
        if (own_.begin == 0) tokens_.push_back(piece.lane->token(position));
        positions_.push_back(static_cast<int32_t>(position));
        candidate_of_row_.push_back(piece.lane->candidate);
      }
      for (size_t back = piece.predictions; back > 0; --back) {
        const size_t row = positions_.size() - back;
        wanted_.push_back(static_cast<int32_t>(row));
        wanted_positions_.push_back(positions_[row]);
        wanted_candidate_.push_back(piece.lane->candidate);
      }
    }
  }

  size_t row_cache_bytes() const {  // of a position
    return static_cast<size_t>(own_.size() * 2 * kv_width_) * sizeof(float);
  }
  float* cache_of(const Lane& lane, int64_t layer, int64_t which) const {
    return lane.cache.as<float>() +
           ((layer - own_.begin) * 2 + which) * static_cast<int64_t>(lane.capacity) * kv_width_;
  }

  void store(int64_t layer, const std::vector<Piece>& pieces) {
    places_.clear();
    for (const Piece& piece : pieces) {
      for (size_t position = piece.begin; position < piece.begin + piece.count; ++position) {
        const int64_t at = static_cast<int64_t>(position) * kv_width_;
        places_.push_back({cache_of(*piece.lane, layer, 0) + at, cache_of(*piece.lane, layer, 1) + at});
      }
    }
    ops_.kv_scatter(
        {k_.as<float>(), v_.as<float>(), places_.data(), static_cast<int64_t>(places_.size()), kv_width_},
        device_);
  }

  void attention_runs(int64_t layer, const std::vector<Piece>& pieces, bool only_wanted) {
    runs_.clear();
    spans_.clear();
    int64_t row = 0;
    for (const Piece& piece : pieces) {
      const auto count = static_cast<int64_t>(only_wanted ? piece.predictions : piece.count);
      if (count == 0) continue;
      const int64_t end = static_cast<int64_t>(piece.begin + piece.count);
      runs_.push_back({row, count, end - count, static_cast<int64_t>(spans_.size()), 1});
      spans_.push_back({cache_of(*piece.lane, layer, 0), cache_of(*piece.lane, layer, 1), end});
      row += count;
    }
  }

  void feed_forward(int64_t layer, float* residual, const std::vector<int32_t>& candidate_of_row) {
    const int64_t rows = static_cast<int64_t>(candidate_of_row.size());
    if (config_.sparse[static_cast<size_t>(layer)] == 0) {
      layers_.dense(layer, residual, rows);
      return;
    }
    for (int64_t first = 0; first < rows;) {
      // As many rows as the merge buffer allows; rows are sorted by candidate.
      std::vector<const LayerVariant*> variants;
      std::vector<int32_t> variant_ids;
      std::vector<int32_t> variant_of_row;
      int64_t merged_rows = 0, end = first;
      for (; end < rows; ++end) {
        const int32_t id =
            variants_.index(layer, static_cast<size_t>(candidate_of_row[static_cast<size_t>(end)]));
        auto found = std::find(variant_ids.begin(), variant_ids.end(), id);
        if (found == variant_ids.end()) {
          const LayerVariant& setting = variants_.at(layer, id);
          if (end > first && merged_rows + setting.merged_rows() > merged_.slots()) break;
          merged_rows += setting.merged_rows();
          variants.push_back(&setting);
          variant_ids.push_back(id);
          found = variant_ids.end() - 1;
        }
        variant_of_row.push_back(static_cast<int32_t>(found - variant_ids.begin()));
      }
      MixtureBlock block;
      block.residual = residual + first * config_.hidden_size;
      block.rows = end - first;
      block.variants = variants;
      block.variant_of_row = variants.size() == 1 ? nullptr : variant_of_row.data();
      layers_.mixture(layer, block, merged_);
      first = end;
    }
  }

  // [wanted] the largest logits' tokens.
  std::vector<TokenScore> predictions() {
    const size_t count = wanted_.size();
    std::vector<int32_t> index(count), target(count, 0);  // of any token: its score tells of all logits
    std::vector<TokenScore> best(count);
    if (count == 0) return best;
    for (size_t i = 0; i < count; ++i) index[i] = static_cast<int32_t>(i);
    layers_.score(wanted_residual_.as<float>(), index, target, best.data());
    return best;
  }

  void take(const std::vector<Piece>& pieces, const std::vector<TokenScore>& best) {
    size_t next = 0;
    for (const Piece& piece : pieces) {
      if (piece.predictions == 0) continue;
      Lane& lane = *piece.lane;
      for (size_t i = 0; i < piece.predictions; ++i) {
        const TokenScore& score = best.at(next + i);
        const int32_t token = ends_lost_ && !std::isfinite(score.log_probability) ? kLost : score.argmax;
        lane.predicted.push_back(token);
        if (i < lane.draft.size() && token != lane.draft[i]) break;
      }
      next += piece.predictions;
      count_draft(lane);
    }
  }

  // A draft that fails early is followed by a shorter one.
  void count_draft(Lane& lane) {
    if (lane.draft.empty()) return;
    const size_t right = lane.predicted.size() - 1;
    work_.drafted += static_cast<int64_t>(lane.draft.size());
    work_.accepted += static_cast<int64_t>(right);
    lane.draft_limit = right == lane.draft.size() ? 2 * lane.draft_limit : 2 * right + 1;
    lane.draft.clear();
  }

  const Weights& weights_;
  const ModelConfig& config_;
  const Ops& ops_;
  Device device_;
  const LayerVariants& variants_;
  LayerRange own_;
  StageLink* link_;
  int64_t kv_width_;
  int64_t block_rows_;
  LayerPass layers_;
  MergeBuffer merged_;
  bool ends_lost_;
  WorkCounts& work_;
  DeviceBuffer residual_, wanted_residual_, k_, v_;
  std::vector<int32_t> tokens_, positions_, candidate_of_row_, wanted_, wanted_positions_, wanted_candidate_;
  std::vector<AttentionRun> runs_;
  std::vector<KvSpan> spans_;
  std::vector<KvPlace> places_;
  std::deque<std::vector<Piece>> under_way_;  // passes whose rows are with the next stages
  std::vector<int64_t> ended_;                // lanes, since the last pass
};

// Predicted tokens join the others until the lane is finished, or one is lost; whether it is.
template <typename Finished, typename Lost>
bool take_predicted(Lane& lane, const Finished& finished, const Lost& lost) {
  if (lane.predicted.empty()) return false;  // a piece of its prompt went by
  bool done = false;
  for (size_t i = 0; i < lane.predicted.size() && !done; ++i) {
    if (lane.predicted[i] == kLost) {
      lost(lane.candidate, lane.sequence);
      return true;
    }
    lane.tokens.push_back(lane.predicted[i]);
    lane.cached = lane.tokens.size() - 1;
    done = finished(lane);
  }
  lane.predicted.clear();
  return done;
}

}  // namespace

std::vector<std::vector<std::vector<int32_t>>> PopulationForward::generate(
    std::span<const ExpertPlan> plans, std::span<const std::vector<std::vector<int32_t>>> prompts,
    const GenerateOptions& options, const StopFunction& stop, const DraftFunction& draft) {
  State& state = *state_;
  const ModelConfig& config = state.config;
  std::vector<std::vector<std::vector<int32_t>>> result(plans.size());
  std::vector<Lane> lanes;
  for (size_t candidate = 0; candidate < plans.size(); ++candidate) {
    result[candidate].resize(prompts[candidate].size());
    for (size_t sequence = 0; sequence < prompts[candidate].size(); ++sequence) {
      const std::vector<int32_t>& prompt = prompts[candidate][sequence];
      if (prompt.empty()) throw Error(ExitCode::kData, "prompt", "no tokens" + expected_got("at least 1", 0));
      state.check_tokens(prompt, static_cast<int64_t>(prompt.size()));
      Lane lane;
      lane.id = static_cast<int64_t>(lanes.size());
      lane.candidate = static_cast<int32_t>(candidate);
      lane.sequence = static_cast<int32_t>(sequence);
      lane.tokens = prompt;
      lane.prompt_size = prompt.size();
      lane.capacity = std::min(prompt.size() + static_cast<size_t>(options.max_new),
                               static_cast<size_t>(config.max_positions));
      lanes.push_back(std::move(lane));
      state.work.tokens_asked += static_cast<int64_t>(prompt.size()) + options.max_new;
    }
  }
  if (lanes.empty() || options.max_new < 1) return result;

  const LayerVariants variants(config, plans);
  std::vector<LaneSize> sizes_of_lanes;
  for (const Lane& lane : lanes) sizes_of_lanes.push_back({lane.prompt_size, lane.capacity});
  const DecodePlan decode = plan_decoding(state.weights, state.memory_budget, variants,
                                          static_cast<int32_t>(plans.size()), sizes_of_lanes);
  const size_t row_cache = decode.row_cache;
  const MemoryPlan& memory = decode.memory;
  Decoder decoder(state.weights, variants, memory.limits, memory.merged_experts, options.lost != nullptr,
                  state.work);
  if (StageLink* const link = state.weights.link()) {
    link->announce({StageCall::Kind::kGenerate, plans, nullptr, nullptr});
    const std::array<int64_t, 3> sizes{memory.limits.block_rows, memory.limits.positions,
                                       memory.merged_experts};
    link->send(1, header_message(sizes));
  }

  const auto finished = [&](const Lane& lane) {
    const size_t made = lane.tokens.size() - lane.prompt_size;
    if (made == 0) return false;
    const int32_t token = lane.tokens.back();
    const bool end =
        !options.ignore_eos && std::find(config.eos_token_ids.begin(), config.eos_token_ids.end(), token) !=
                                   config.eos_token_ids.end();
    return end || made >= static_cast<size_t>(options.max_new) || lane.tokens.size() > lane.capacity ||
           (stop && stop(lane.candidate, lane.sequence, std::span(lane.tokens).subspan(lane.prompt_size)));
  };

  for (size_t begin = 0; begin < lanes.size();) {
    std::vector<Lane*> live;
    size_t end = begin, used = 0;
    while (end < lanes.size() &&
           (end == begin || used + row_cache * lanes[end].capacity <= decode.cache_bytes)) {
      used += row_cache * lanes[end].capacity;
      lanes[end].cache = DeviceBuffer(state.weights.backend(), row_cache * lanes[end].capacity);
      live.push_back(&lanes[end++]);
    }
    while (!live.empty()) {
      decoder.advance(live, draft);
      ++state.work.decode_steps;
      std::erase_if(live, [&](Lane* lane) {
        if (!take_predicted(*lane, finished, options.lost)) return false;
        decoder.end(*lane);
        std::vector<int32_t>& made =
            result[static_cast<size_t>(lane->candidate)][static_cast<size_t>(lane->sequence)];
        made.assign(lane->tokens.begin() + static_cast<int64_t>(lane->prompt_size), lane->tokens.end());
        if (options.finished) options.finished(lane->candidate, lane->sequence, made);
        return true;
      });
    }
    begin = end;
  }
  if (state.weights.link() != nullptr) decoder.end_followers();
  count_weights(decoder.layers(), decoder.merged(), &state.work);
  return result;
}

void PopulationForward::follow_generation(std::span<const ExpertPlan> plans) {
  State& state = *state_;
  StageLink& link = *state.weights.link();
  const std::string message = link.receive(link.stage() - 1);
  if (!link.last()) link.send(link.stage() + 1, message);
  const std::vector<int64_t> sizes = take_header(message);
  const LayerVariants variants(state.config, plans);
  MemoryRequest request = request_for(state.weights, 0);
  request.budget = 0;  // the first stage has seen to it that this fits
  request.rows = request.largest_tree = sizes.at(0);
  request.positions = sizes.at(1);
  request.merged_slots = sizes.at(2);
  request.dense_experts = variants.most_merged_rows();
  request.slots = variants.slots();
  const MemoryPlan memory = plan_memory(state.config, state.weights.ops(), request);
  Decoder decoder(state.weights, variants, memory.limits, memory.merged_experts,
                  /*ends_lost=*/false, state.work);
  decoder.follow();
  count_weights(decoder.layers(), decoder.merged(), &state.work);
}

}  // namespace eep
