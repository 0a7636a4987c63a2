// What the ranks of a run send each other, as bytes: work (plans and items), results, the failure of neither.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/expert_plan.h"
#include "engine/forward.h"
#include "engine/prompts.h"
#include "engine/skip_thresholds.h"
#include "experiments/study/calibration_request.h"
#include "experiments/study/evaluator.h"

namespace eep {

struct RankWorkPart {
  std::vector<ExpertPlan> plans;
  std::vector<int32_t> items;  // of the set; empty: all
};

struct RankWork {
  int32_t number = 0;
  int32_t combination = 0;  // of the sweep
  uint8_t set = 0;          // Split
  std::string model, data;  // hashes, which every rank's own must equal
  std::string known;        // records of the journal
  std::vector<RankWorkPart> parts;
};

struct RankResult {
  int32_t number = 0;
  double seconds = 0;
  WorkCounts work;
  std::vector<std::vector<std::vector<ItemScore>>> items;  // [parts][plans][items]
};

// What the first stage of a model's layers tells the others (engine/stages.h).
struct StageRequest {
  enum class Kind : uint8_t { kOpen, kScore, kGenerate, kCalibrate, kRatios } kind = Kind::kOpen;
  int32_t combination = 0;  // of the sweep, whose model it is
  uint64_t room = 0;        // StageLink::least_room
  std::vector<ExpertPlan> plans;
  Prompts prompts;
  CalibrationRequest calibration;  // of kCalibrate
};

std::string stage_request_bytes(const StageRequest& request);
StageRequest stage_request_of(std::string_view bytes);

// A calibration that is divided: what is summed, then parts of the text, then an empty one, which the last
// part stands before. Stages of a model (engine/stages.h) get them from the first one.
struct CalibrationWork {
  int32_t combination = 0;  // of the sweep, whose model it is
  std::string model;        // hash, which every rank's own must equal
  CalibrationRequest request;
};
struct CalibrationPart {
  int64_t number = 0;  // of the parts in their order
  int32_t next = 0;    // rank that has the next one, or puts all together; where it has stages, the first
  bool here = false;   // the part before it was this rank's own, or there was none
  Prompts prompts;
};
// What a layer has been added to by all parts before that of this number.
struct LayerSums {
  int64_t part = 0;
  int32_t layer = 0;  // among the sparse ones
  std::string bytes;
};

// Thresholds of a plan that are divided: a part of the text, answered with its ratios.
struct RatiosWork {
  int32_t combination = 0;  // of the sweep, whose model it is
  std::string model;        // hash, which every rank's own must equal
  ExpertPlan plan;
  Prompts prompts;
};

std::string ratios_work_bytes(const RatiosWork& work);
RatiosWork ratios_work_of(std::string_view bytes);
std::string ratios_bytes(const WeightRatios& ratios);
WeightRatios ratios_of(std::string_view bytes);
std::string calibration_work_bytes(const CalibrationWork& work);
CalibrationWork calibration_work_of(std::string_view bytes);
std::string calibration_part_bytes(const CalibrationPart& part);
CalibrationPart calibration_part_of(std::string_view bytes);
std::string layer_sums_bytes(const LayerSums& sums);
LayerSums layer_sums_of(std::string_view bytes);

// How far a rank is with its parts, told while it computes: answers of plans to items that are scored, and of
// those that scores leave open how many are decoded.
struct RankProgress {
  int32_t number = 0;
  int64_t scored = 0, decoded = 0, open = 0;

  bool operator==(const RankProgress&) const = default;
};

std::string progress_bytes(const RankProgress& progress);
RankProgress progress_of(std::string_view bytes);
std::string work_bytes(const RankWork& work);
RankWork work_of(std::string_view bytes);
std::string result_bytes(const RankResult& result);
RankResult result_of(std::string_view bytes);

}  // namespace eep
