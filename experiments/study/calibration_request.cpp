#include "experiments/study/calibration_request.h"

#include <algorithm>

#include "kernels/common/subsets.h"

namespace eep {

CalibrationRequest request_of(const CalibrationOptions& options, const ModelConfig& config) {
  CalibrationRequest request{options, {}};
  const auto experts = static_cast<int32_t>(config.num_experts);
  for (int32_t layer = 0; layer < config.num_layers && options.sample_subsets; ++layer) {
    auto& lists = request.subsets.emplace_back();
    for (const int32_t kept : options.subset_kept) {
      const bool sampled = binomial(experts, kept) > options.max_exhaustive;
      lists.push_back(sampled ? options.sample_subsets(layer, kept) : std::vector<std::vector<int32_t>>{});
    }
  }
  return request;
}

CalibrationOptions options_of(const CalibrationRequest& request) {
  CalibrationOptions options{request.sums};
  options.sample_subsets = [&request](int32_t layer, int32_t kept) {
    const std::vector<int32_t>& counts = request.sums.subset_kept;
    const auto at = std::find(counts.begin(), counts.end(), kept);
    return request.subsets.at(static_cast<size_t>(layer)).at(static_cast<size_t>(at - counts.begin()));
  };
  return options;
}

}  // namespace eep
