#include "experiments/study/rank_calibration.h"

#include <algorithm>
#include <map>
#include <utility>

#include "engine/prompt_texts.h"
#include "experiments/study/division.h"
#include "experiments/study/rank_evaluation.h"

namespace eep {
namespace {

// Sums that have come for this rank, by part and layer.
class SumsInbox {
 public:
  explicit SumsInbox(Ranks& ranks) : ranks_(ranks) {}

  std::string take(int64_t part, int32_t layer) {
    for (;;) {
      const auto found = early_.find({part, layer});
      if (found != early_.end()) {
        std::string bytes = std::move(found->second);
        early_.erase(found);
        return bytes;
      }
      LayerSums sums = layer_sums_of(ranks_.receive({kSumsTag}).bytes);
      early_[{sums.part, sums.layer}] = std::move(sums.bytes);
    }
  }

 private:
  Ranks& ranks_;
  std::map<std::pair<int64_t, int32_t>, std::string> early_;
};

// One part's way in and out.
class RankRelay : public SumsRelay {
 public:
  RankRelay(Ranks& ranks, SumsInbox& inbox, const CalibrationPart& part)
      : ranks_(ranks), inbox_(inbox), part_(part) {}

  std::string take(int32_t layer) override { return part_.here ? "" : inbox_.take(part_.number, layer); }
  void give(int32_t layer, const std::function<std::string()>& bytes) override {
    if (part_.next == ranks_.rank()) return;
    ranks_.send(part_.next, kSumsTag, layer_sums_bytes({part_.number + 1, layer, bytes()}));
  }

 private:
  Ranks& ranks_;
  SumsInbox& inbox_;
  const CalibrationPart& part_;
};

// Sums that the last part's rank has sent, of the layers that are here.
void take_last_sums(CalibrationPass& pass, SumsInbox& inbox, const Weights& weights, int64_t parts) {
  int32_t number = 0;
  for (int64_t layer = 0; layer < weights.config().num_layers; ++layer) {
    if (weights.config().sparse[static_cast<size_t>(layer)] == 0) continue;
    if (weights.layers().has(layer)) pass.set_sums(number, inbox.take(parts, number));
    ++number;
  }
}

// To the stages behind this one.
void send_to_stages(const Weights& weights, Ranks& ranks, const std::string& part) {
  const int stages = weights.link() == nullptr ? 1 : weights.link()->stages();
  for (int stage = 1; stage < stages; ++stage) ranks.send(ranks.rank() + stage, kTextTag, part);
}

void announce_to_stages(const Weights& weights, const CalibrationOptions& options) {
  if (weights.link() != nullptr)
    weights.link()->announce({StageCall::Kind::kCalibrate, {}, nullptr, &options});
}

}  // namespace

// The first part of any prompts is the leader's, which has the last one's sums as well.
std::vector<CalibrationPart> RankCalibration::divide(const Prompts& prompts, int64_t first_row,
                                                     int64_t dense_end, int64_t most_rows) {
  std::vector<CalibrationPart> parts;
  int64_t begin = first_row;
  for (const int64_t end : divide_text(prompts, first_row, dense_end, models_, most_rows)) {
    CalibrationPart& part = parts.emplace_back();
    const auto at = static_cast<int64_t>(parts.size()) - 1;
    part.number = parts_++;
    part.next = rank_of(at + 1);
    part.here = rank_of(at) == last_owner_;
    part.prompts = prompts_between(prompts, begin, end);
    last_owner_ = rank_of(at);
    begin = end;
  }
  if (!parts.empty()) parts.back().next = ranks_.rank();
  return parts;
}

ExpertStatistics RankCalibration::calibrate(int32_t combination, ModelContext& model, size_t memory,
                                            const PromptSource& next, const CalibrationOptions& options) {
  CalibrationOptions own = options;
  int64_t told = 0, rows = 0;  // of all ranks' parts, as far as this one's show it
  double share = 1;            // of the rows, that are this rank's
  own.progress = [&](int64_t tokens) {
    const auto shown = std::min(rows, static_cast<int64_t>(static_cast<double>(tokens) / share));
    if (options.progress && shown > told) options.progress(told = shown);
  };
  CalibrationPass pass(model.weights(), memory, own);
  SumsInbox inbox(ranks_);
  parts_ = 0;
  last_owner_ = ranks_.rank();
  const std::string work =
      calibration_work_bytes({combination, model.hash(), request_of(options, model.config())});
  for (int other = 1; other < models_; ++other) ranks_.send(rank_of(other), kCalibrateTag, work);
  announce_to_stages(model.weights(), options);

  const bool dense = options.every_expert || !options.subset_kept.empty();
  int64_t first_row = pass.begin(), before = 0, mine = first_row;
  for (Prompts prompts; next(prompts); first_row = 0) {
    const int64_t dense_end = dense ? options.subset_tokens - before : 0;
    const std::vector<CalibrationPart> parts =
        divide(prompts, first_row, dense_end, pass.chunk_rows(prompts));
    rows += prompts.rows();
    for (size_t at = 0; at < parts.size(); ++at) {
      if (rank_of(static_cast<int64_t>(at)) == ranks_.rank()) {
        mine += parts[at].prompts.rows();
      } else {
        ranks_.send(rank_of(static_cast<int64_t>(at)), kTextTag, calibration_part_bytes(parts[at]));
      }
    }
    share = rows == 0 ? 1.0 : static_cast<double>(mine) / static_cast<double>(rows);
    for (size_t at = 0; at < parts.size(); at += static_cast<size_t>(models_)) {
      send_to_stages(model.weights(), ranks_, calibration_part_bytes(parts[at]));
      RankRelay relay(ranks_, inbox, parts[at]);
      pass.run_part(parts[at].prompts, relay);
      int64_t done = first_row;
      for (size_t part = 0; part <= at; ++part) done += parts[part].prompts.rows();
      pass.keep(done);
    }
    before += prompts.rows();
  }
  const std::string end = calibration_part_bytes({parts_, ranks_.rank(), last_owner_ == ranks_.rank(), {}});
  for (int other = 1; other < models_; ++other) ranks_.send(rank_of(other), kTextTag, end);
  send_to_stages(model.weights(), ranks_, end);
  if (last_owner_ != ranks_.rank()) take_last_sums(pass, inbox, model.weights(), parts_);
  own.progress(rows);
  return pass.finish();
}

void compute_calibration(const CalibrationWork& work, ModelContext& model, size_t memory, Ranks& ranks) {
  check_same_as_leader("the model", work.model, model.hash());
  const CalibrationOptions options = options_of(work.request);
  CalibrationPass pass(model.weights(), memory, options);
  SumsInbox inbox(ranks);
  announce_to_stages(model.weights(), options);
  for (;;) {
    const std::string bytes = ranks.receive({kTextTag}).bytes;
    send_to_stages(model.weights(), ranks, bytes);
    const CalibrationPart part = calibration_part_of(bytes);
    if (part.prompts.rows() == 0) return pass.await_stages();
    RankRelay relay(ranks, inbox, part);
    pass.run_part(part.prompts, relay);
  }
}

void follow_calibration(const CalibrationRequest& request, const ModelContext& model, Ranks& ranks) {
  const Weights& weights = model.weights();
  const CalibrationOptions options = options_of(request);
  CalibrationPass pass(weights, 0, options);
  SumsInbox inbox(ranks);
  for (;;) {
    CalibrationPart part = calibration_part_of(ranks.receive({kTextTag}).bytes);
    part.next += weights.link()->stage();  // with the same layers
    if (part.prompts.rows() == 0) {
      if (part.next != ranks.rank()) return;
      if (!part.here) take_last_sums(pass, inbox, weights, part.number);
      pass.finish();
      return;
    }
    RankRelay relay(ranks, inbox, part);
    pass.run_part(part.prompts, relay);
  }
}

}  // namespace eep
