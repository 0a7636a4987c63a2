#include "engine/scoring.h"

#include <algorithm>
#include <array>

#include "kernels/common/error.h"

namespace eep {
namespace {

// What goes ahead of a chunk's rows: these numbers, then the candidates.
enum Header : size_t { kChunk, kTinySums, kNegativeSums, kRowLayers, kHeader };
constexpr int64_t kNoMoreChunks = -1;

}  // namespace

Scoring::Scoring(const Weights& weights, const LayerVariants& variants, const MemoryPlan& plan,
                 const Prompts& prompts, size_t candidates, WorkCounts& work)
    : config_(weights.config()),
      plan_(plan),
      prompts_(prompts),
      candidates_(candidates),
      work_(work),
      link_(weights.link()),
      pass_(weights, variants, plan, work),
      chunks_(cut_prompts(prompts, plan.chunk_rows)) {}

void Scoring::lead(ScoreKeeper* keeper, const std::function<void(double share)>& progress, Scores* scores) {
  // Rows times candidates; the layers of a chunk and its scores are steps of equal size.
  const double all = static_cast<double>(prompts_.rows()) * static_cast<double>(candidates_);
  double before = 0, chunk_size = 0;
  const auto tell = [&](int64_t layers) {
    const double share = static_cast<double>(layers) / static_cast<double>(config_.num_layers + 1);
    progress((before + chunk_size * share) / all);
  };
  if (progress) pass_.set_after_layer(tell);
  for (size_t begin = 0; begin < candidates_; begin += static_cast<size_t>(plan_.candidates)) {
    const size_t end = std::min(candidates_, begin + static_cast<size_t>(plan_.candidates));
    for (const PromptChunk& chunk : chunks_) {
      before += chunk_size;
      chunk_size = static_cast<double>(chunk.rows) * static_cast<double>(end - begin);
      if (chunk.scores == 0) continue;
      const std::vector<size_t> candidates = unknown(chunk, begin, end, keeper, scores);
      if (candidates.empty()) continue;
      pass_.run(chunk, candidates, nullptr);
      if (link_ == nullptr) {
        put(chunk, pass_.streams(), made(chunk), keeper, scores);
        continue;
      }
      pass_on(&chunk - chunks_.data(), candidates);
      pass_.follow_to_end();
      under_way_.push_back({&chunk, pass_.streams()});
      if (under_way_.size() >= static_cast<size_t>(link_->stages())) take_back(keeper, scores);
    }
  }
  if (link_ != nullptr) {
    const std::array<int64_t, kHeader> end{kNoMoreChunks};
    link_->send(1, header_message(end));
    while (!under_way_.empty()) take_back(keeper, scores);
  }
  if (progress) progress(1);
}

std::vector<size_t> Scoring::unknown(const PromptChunk& chunk, size_t begin, size_t end, ScoreKeeper* keeper,
                                     Scores* scores) const {
  std::vector<size_t> candidates;
  for (size_t i = begin; i < end; ++i) {
    const std::span<TokenScore> made((*scores)[i].data() + chunk.score_begin,
                                     static_cast<size_t>(chunk.scores));
    if (keeper == nullptr || !keeper->known(i, chunk.score_begin, made)) candidates.push_back(i);
  }
  return candidates;
}

std::vector<TokenScore> Scoring::made(const PromptChunk& chunk) {
  // The rows of all streams lie one stream after the other.
  const int64_t streams = static_cast<int64_t>(pass_.streams().size());
  const std::vector<int32_t> rows =
      repeat(chunk.wanted_of_score, streams, static_cast<int32_t>(chunk.wanted.size()));
  std::vector<TokenScore> scores(rows.size());
  pass_.layers().score(pass_.residual(), rows, repeat(chunk.targets, streams, 0), scores.data());
  return scores;
}

void Scoring::put(const PromptChunk& chunk, const std::vector<Stream>& streams,
                  std::span<const TokenScore> made, ScoreKeeper* keeper, Scores* scores) const {
  auto from = made.begin();
  for (const Stream& stream : streams) {
    for (const size_t candidate : stream.candidates) {
      const std::span<TokenScore> to =
          std::span((*scores)[candidate])
              .subspan(static_cast<size_t>(chunk.score_begin), static_cast<size_t>(chunk.scores));
      std::copy_n(from, chunk.scores, to.begin());
      if (keeper != nullptr) keeper->made(candidate, chunk.score_begin, to);
    }
    from += chunk.scores;
  }
  if (keeper != nullptr) keeper->chunk_done();
}

void Scoring::pass_on(int64_t number, std::span<const size_t> candidates) {
  std::vector<int64_t> header(kHeader, 0);
  header[kChunk] = number;
  header.insert(header.end(), candidates.begin(), candidates.end());
  link_->send(1, header_message(header));
  pass_.send_rows(chunks_[static_cast<size_t>(number)]);
}

void Scoring::take_back(ScoreKeeper* keeper, Scores* scores) {
  const std::string message = link_->receive(link_->stages() - 1);
  const std::vector<int64_t> header = take_header(message);
  work_.router.tiny_sums += header.at(kTinySums);
  work_.router.negative_sums += header.at(kNegativeSums);
  row_layers_elsewhere_ += header.at(kRowLayers);
  const UnderWay chunk = std::move(under_way_.front());
  under_way_.pop_front();
  const std::vector<TokenScore> made = values_of<TokenScore>(after_header(message));
  if (made.size() != chunk.streams.size() * static_cast<size_t>(chunk.chunk->scores))
    throw Error(ExitCode::kRuntime, "stages", "the last one returned another number of scores");
  put(*chunk.chunk, chunk.streams, made, keeper, scores);
}

void Scoring::follow() {
  for (;;) {
    const std::string message = link_->receive(link_->stage() - 1);
    std::vector<int64_t> header = take_header(message);
    if (header.at(kChunk) == kNoMoreChunks) {
      if (!link_->last()) link_->send(link_->stage() + 1, message);
      return;
    }
    const PromptChunk& chunk = chunks_.at(static_cast<size_t>(header.at(kChunk)));
    const std::vector<size_t> candidates(header.begin() + kHeader, header.end());
    const RouterCounts before = work_.router;
    const int64_t computed = pass_.computed_row_layers();
    pass_.run(chunk, candidates, nullptr);
    header[kTinySums] += work_.router.tiny_sums - before.tiny_sums;
    header[kNegativeSums] += work_.router.negative_sums - before.negative_sums;
    header[kRowLayers] += pass_.computed_row_layers() - computed;
    if (link_->last()) {
      const std::vector<TokenScore> scores = made(chunk);
      link_->send(0, header_message(header) + bytes_of(std::span<const TokenScore>(scores)));
    } else {
      link_->send(link_->stage() + 1, header_message(header));
      pass_.send_rows(chunk);
    }
  }
}

void Scoring::count() {
  work_.tokens_computed += (pass_.computed_row_layers() + row_layers_elsewhere_) / config_.num_layers;
  work_.tokens_kept += pass_.kept_row_layers() / config_.num_layers;
  count_weights(pass_.layers(), pass_.merged(), &work_);
}

}  // namespace eep
