// A calibration over all ranks: parts of the text go to them in turn, and the sums of each layer from the
// rank that has one part to the one with the next, layer by layer while both compute. So every number is
// added to where and when one rank would: the bytes are those of one rank.
#pragma once

#include <cstdint>

#include "engine/calibration.h"
#include "experiments/ranks/ranks.h"
#include "experiments/study/model_context.h"
#include "experiments/study/rank_messages.h"

namespace eep {

// Tags of the work: the first two for ranks that wait for any.
constexpr int kCalibrateTag = Ranks::kFirstTag + 16, kTextTag = kCalibrateTag + 1,
              kSumsTag = kCalibrateTag + 2;

// The side of the rank that leads: 0, or the first of a group of `count` neighbours, every `step`-th of which
// has the first layers of a model, the ones behind it the others (engine/stages.h). Sums then go between
// ranks that have the same layers.
class RankCalibration {
 public:
  RankCalibration(Ranks& ranks, int count, int step) : ranks_(ranks), models_(count / step), step_(step) {}

  // calibrate() of engine/calibration.h. options.keep is called when this rank has made a part: what the
  // others were at is then lost with it. combination: of the sweep, whose model it is. Throws Interrupted,
  // and Error where another rank fails or has another model.
  ExpertStatistics calibrate(int32_t combination, ModelContext& model, size_t memory,
                             const PromptSource& next, const CalibrationOptions& options);

 private:
  int rank_of(int64_t part) const { return ranks_.rank() + static_cast<int>(part % models_) * step_; }
  std::vector<CalibrationPart> divide(const Prompts& prompts, int64_t first_row, int64_t dense_end,
                                      int64_t most_rows);

  Ranks& ranks_;
  int models_, step_;
  int64_t parts_ = 0;   // so far
  int last_owner_ = 0;  // rank that had the last one
};

// The other ranks' side, until the one that leads says that the text is over.
void compute_calibration(const CalibrationWork& work, ModelContext& model, size_t memory, Ranks& ranks);
// The side of a stage that is not the first of its model.
void follow_calibration(const CalibrationRequest& request, const ModelContext& model, Ranks& ranks);

}  // namespace eep
