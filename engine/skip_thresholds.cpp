#include "engine/skip_thresholds.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "engine/observe.h"
#include "engine/stages.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

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

  WeightRatios finish() { return std::move(ratios_); }

 private:
  const Ops& ops_;
  Device device_;
  WeightRatios ratios_;
};

// The first stage takes those of the layers that the others have.
void gather(StageLink& link, const std::vector<uint8_t>& sparse, int64_t rows, WeightRatios& ratios) {
  const auto for_layers = [&](int stage, const auto& visit) {
    const LayerRange& layers = link.layers()[static_cast<size_t>(stage)];
    for (int64_t layer = layers.begin; layer < layers.end; ++layer) {
      if (sparse[static_cast<size_t>(layer)] != 0) visit(ratios[static_cast<size_t>(layer)]);
    }
  };
  if (!link.first()) {
    std::string bytes;
    for_layers(link.stage(), [&](const std::vector<float>& own) { bytes += bytes_of(std::span(own)); });
    return link.send(0, std::move(bytes));
  }
  const size_t size = static_cast<size_t>(rows) * sizeof(float);
  for (int stage = 1; stage < link.stages(); ++stage) {
    const std::string message = link.receive(stage);
    std::string_view bytes = message;
    for_layers(stage, [&](std::vector<float>& taken) {
      if (bytes.size() < size) throw Error(ExitCode::kRuntime, "stages", "a message that is cut off");
      taken = values_of<float>(bytes.substr(0, size));
      bytes.remove_prefix(size);
    });
  }
}

}  // namespace

void check_skippable(int64_t top_k, int64_t kept) {
  if (top_k == 2 && kept >= 2) return;
  throw Error(ExitCode::kConfig, "dynamic skipping",
              "it leaves out the second of two experts" +
                  expected_got("two active ones of two or more kept",
                               std::to_string(top_k) + " of " + std::to_string(kept)));
}

void check_skippable(const ExpertPlan& plan) {
  int32_t kept = plan.groups.at(0).kept;
  for (const PlanGroup& group : plan.groups) kept = std::min(kept, group.kept);
  check_skippable(plan.top_k, kept);
  if (skips_experts(plan))
    throw Error(ExitCode::kConfig, "dynamic skipping", "the plan skips experts already");
}

WeightRatios weight_ratios(const Weights& weights, size_t memory_budget, const ExpertPlan& plan,
                           const Prompts& prompts, const std::function<void(int64_t)>& progress) {
  StageLink* const link = weights.link();
  if (link != nullptr && link->first())
    link->announce({StageCall::Kind::kRatios, std::span<const ExpertPlan>(&plan, 1), &prompts, nullptr});
  RatioObserver observer(weights.config(), weights.backend());
  observe_mixtures(weights, memory_budget, prompts, observer, 0, progress, &plan);
  WeightRatios ratios = observer.finish();
  if (link != nullptr) gather(*link, weights.config().sparse, prompts.rows(), ratios);
  return ratios;
}

SkipThresholds thresholds_of(WeightRatios ratios) {
  SkipThresholds found;
  int64_t places = 0, skipped = 0;
  for (std::vector<float>& layer : ratios) {
    float threshold = 0;
    if (!layer.empty()) {
      const auto middle = layer.begin() + (std::ssize(layer) - 1) / 2;
      std::nth_element(layer.begin(), middle, layer.end());
      threshold = std::clamp(*middle, 0.0f, 1.0f);
    }
    found.of_layer.push_back(threshold);
    places += std::ssize(layer);
    skipped += std::count_if(layer.begin(), layer.end(), [&](float r) { return r < threshold; });
  }
  found.active = 2 - static_cast<double>(skipped) / static_cast<double>(std::max<int64_t>(places, 1));
  return found;
}

SkipThresholds skip_thresholds(const Weights& weights, size_t memory_budget, const ExpertPlan& plan,
                               const Prompts& prompts, const std::function<void(int64_t)>& progress) {
  check_skippable(plan);
  return thresholds_of(weight_ratios(weights, memory_budget, plan, prompts, progress));
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
