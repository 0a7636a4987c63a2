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

// The side of the rank that leads: 0, or the first of a group of `count` neighbours.
class RankCalibration {
 public:
  RankCalibration(Ranks& ranks, int count) : ranks_(ranks), count_(count) {}

  // calibrate() of engine/calibration.h. options.keep is called when this rank has made a part: what the
  // others were at is then lost with it. combination: of the sweep, whose model it is. Throws Interrupted,
  // and Error where another rank fails or has another model.
  ExpertStatistics calibrate(int32_t combination, ModelContext& model, size_t memory,
                             const PromptSource& next, const CalibrationOptions& options);

 private:
  int rank_of(int64_t part) const { return ranks_.rank() + static_cast<int>(part % count_); }
  std::vector<CalibrationPart> divide(const Prompts& prompts, int64_t first_row, int64_t dense_end,
                                      int64_t most_rows);

  Ranks& ranks_;
  int count_;
  int64_t parts_ = 0;   // so far
  int last_owner_ = 0;  // rank that had the last one
};

// The other ranks' side, for rank `leader`, until it says that the text is over.
void compute_calibration(const CalibrationWork& work, ModelContext& model, size_t memory, Ranks& ranks);

}  // namespace eep
