#include "engine/skip_thresholds.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <string>

#include "engine/observe.h"
#include "kernels/common/error.h"

namespace eep {
namespace {

class RatioObserver final : public MixtureObserver {
 public:
  RatioObserver(const ModelConfig& config, const Backend& backend)
      : ops_(*backend.ops), device_(backend.device), ratios_(config.sparse.size()) {}

  void observe(const View& view) override {
    std::vector<float> weight(static_cast<size_t>(view.rows * view.slots));
    ops_.download(weight.data(), view.weight, weight.size() * sizeof(float), device_);
    std::vector<float>& ratios = ratios_[static_cast<size_t>(view.layer)];
    for (size_t row = 0; row < weight.size(); row += static_cast<size_t>(view.slots)) {
      const float ratio = weight[row + 1] / weight[row];
      ratios.push_back(std::isfinite(ratio) ? ratio : 1.0f);  // a first weight of 0: nothing is below it
    }
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

void check_skippable(int64_t top_k, int64_t kept) {
  if (top_k == 2 && kept >= 2) return;
  throw Error(ExitCode::kConfig, "dynamic skipping",
              "it leaves out the second of two experts (expected two active ones of two or more kept, got " +
                  std::to_string(top_k) + " of " + std::to_string(kept) + ")");
}

SkipThresholds skip_thresholds(const Weights& weights, size_t memory_budget, const ExpertPlan& plan,
                               const Prompts& prompts, const std::function<void(int64_t)>& progress) {
  assert(weights.link() == nullptr);  // other stages are not told of the pass, and it would wait for them
  int32_t kept = plan.groups.at(0).kept;
  for (const PlanGroup& group : plan.groups) kept = std::min(kept, group.kept);
  check_skippable(plan.top_k, kept);
  if (skips_experts(plan))
    throw Error(ExitCode::kConfig, "dynamic skipping", "the plan skips experts already");
  RatioObserver observer(weights.config(), weights.backend());
  observe_mixtures(weights, memory_budget, prompts, observer, 0, progress, &plan);
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
