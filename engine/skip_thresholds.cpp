#include "engine/skip_thresholds.h"

#include <algorithm>
#include <string>

#include "engine/observe.h"
#include "kernels/common/error.h"

namespace eep {
namespace {

class RatioObserver final : public MixtureObserver {
 public:
  RatioObserver(const ModelConfig& config, const Ops& ops, const Device& device)
      : ops_(ops), device_(device), ratios_(config.sparse.size()) {}

  void observe(const View& view) override {
    std::vector<float> weight(static_cast<size_t>(view.rows * view.slots));
    ops_.download(weight.data(), view.weight, weight.size() * sizeof(float), device_);
    std::vector<float>& ratios = ratios_[static_cast<size_t>(view.layer)];
    for (size_t row = 0; row < weight.size(); row += static_cast<size_t>(view.slots))
      ratios.push_back(weight[row + 1] / weight[row]);
  }

  SkipThresholds finish() {
    SkipThresholds found;
    int64_t places = 0, skipped = 0;
    for (std::vector<float>& ratios : ratios_) {
      float threshold = 0;
      if (!ratios.empty()) {
        const auto middle = ratios.begin() + (std::ssize(ratios) - 1) / 2;
        std::nth_element(ratios.begin(), middle, ratios.end());
        threshold = std::clamp(*middle, 0.0f, 1.0f);
      }
      found.of_layer.push_back(threshold);
      places += std::ssize(ratios);
      skipped += std::count_if(ratios.begin(), ratios.end(), [&](float r) { return r < threshold; });
    }
    found.active = 2 - static_cast<double>(skipped) / static_cast<double>(std::max<int64_t>(places, 1));
    return found;
  }

 private:
  const Ops& ops_;
  Device device_;
  std::vector<std::vector<float>> ratios_;  // [model layers][tokens]
};

}  // namespace

SkipThresholds skip_thresholds(const Weights& weights, const Ops& ops, const Device& device,
                               size_t memory_budget, const ExpertPlan& plan, const Prompts& prompts) {
  int32_t active = plan.top_k;
  for (const PlanGroup& group : plan.groups) active = std::min(active, group.kept);
  if (active != 2 || plan.top_k != 2 || skips_experts(plan)) {
    throw Error(
        ExitCode::kConfig, "dynamic skipping",
        "it leaves out the second of two experts (expected a model and a plan with two active experts, "
        "got " +
            std::to_string(active) + " of " + std::to_string(plan.top_k) + ")");
  }
  RatioObserver observer(weights.config(), ops, device);
  observe_mixtures(weights, ops, device, memory_budget, prompts, observer, 0, {}, &plan);
  return observer.finish();
}

ExpertPlan skipping_plan(ExpertPlan plan, const SkipThresholds& thresholds) {
  for (PlanGroup& group : plan.groups) {
    group.skip_below.clear();
    for (const int32_t layer : group.layers)
      group.skip_below.push_back(thresholds.of_layer[static_cast<size_t>(layer)]);
  }
  return plan;
}

}  // namespace eep
