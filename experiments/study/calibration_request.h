// A calibration that another process takes part in: its options without what only one process can call.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/calibration.h"
#include "engine/config.h"

namespace eep {

struct CalibrationRequest {
  CalibrationSums sums;
  // What CalibrationOptions would sample, [layers][kept counts]; empty where all subsets are listed.
  std::vector<std::vector<std::vector<std::vector<int32_t>>>> subsets;
};

CalibrationRequest request_of(const CalibrationOptions& options, const ModelConfig& config);
// The request outlives the options.
CalibrationOptions options_of(const CalibrationRequest& request);

}  // namespace eep
