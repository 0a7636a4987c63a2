#include "experiments/study/division.h"

#include <algorithm>
#include <numeric>

#include "engine/layer_variants.h"

namespace eep {
namespace {

constexpr double kLeastCost = 0.25;     // of a plan that shares every layer: its scores are read all the same
constexpr size_t kWholePlans = 4;       // plans a rank from which on they are not cut
constexpr double kShortTime = 0.005;    // seconds
constexpr double kFast = 4, kSlow = 1;  // a rank's speed is within kSlow / kFast .. kFast / kSlow of the mean

}  // namespace

SharedOrder order_for_sharing(const ModelConfig& config, std::span<const ExpertPlan> plans) {
  const LayerVariants variants(config, plans);
  const int64_t layers = config.num_layers;
  const auto setting = [&](int64_t layer, size_t plan) {
    return config.sparse[static_cast<size_t>(layer)] == 0 ? 0 : variants.index(layer, plan);
  };
  SharedOrder order;
  order.plan.resize(plans.size());
  std::iota(order.plan.begin(), order.plan.end(), size_t{0});
  const auto first_difference = [&](size_t a, size_t b) {
    int64_t layer = 0;
    while (layer < layers && setting(layer, a) == setting(layer, b)) ++layer;
    return layer;
  };
  std::stable_sort(order.plan.begin(), order.plan.end(), [&](size_t a, size_t b) {
    const int64_t layer = first_difference(a, b);
    return layer < layers && setting(layer, a) < setting(layer, b);
  });
  for (size_t at = 0; at < plans.size(); ++at) {
    const int64_t shared = at == 0 ? 0 : first_difference(order.plan[at - 1], order.plan[at]);
    order.cost.push_back(std::max(kLeastCost, static_cast<double>(layers - shared)));
  }
  return order;
}

std::vector<std::vector<WorkPart>> divide_work(std::span<const double> cost, int64_t items,
                                               std::span<const double> speed) {
  const size_t plans = cost.size(), ranks = speed.size();
  const bool whole = plans >= kWholePlans * ranks || items < 2;
  std::vector<double> end(plans + 1, 0.0);  // of the plans on the line
  for (size_t plan = 0; plan < plans; ++plan) end[plan + 1] = end[plan] + cost[plan];
  const double all_speed = std::accumulate(speed.begin(), speed.end(), 0.0);
  // Cuts as (plan, item): everything before them is an earlier rank's.
  struct Cut {
    size_t plan;
    int64_t item;
  };
  std::vector<Cut> cuts{{0, 0}};
  double before = 0;
  for (size_t rank = 0; rank + 1 < ranks; ++rank) {
    before += speed[rank];
    const double place = end[plans] * before / all_speed;
    const auto above = std::upper_bound(end.begin() + 1, end.end(), place);
    Cut cut{static_cast<size_t>(above - end.begin()) - 1, 0};
    if (cut.plan >= plans) {
      cut = {plans, 0};
    } else {
      const double share = (place - end[cut.plan]) / cost[cut.plan];
      cut.item =
          whole ? (share >= 0.5 ? items : 0) : static_cast<int64_t>(share * static_cast<double>(items) + 0.5);
      if (cut.item >= items) cut = {cut.plan + 1, 0};
    }
    const Cut& last = cuts.back();
    if (cut.plan < last.plan || (cut.plan == last.plan && cut.item < last.item)) cut = last;
    cuts.push_back(cut);
  }
  cuts.push_back({plans, 0});

  std::vector<std::vector<WorkPart>> parts(ranks);
  for (size_t rank = 0; rank < ranks; ++rank) {
    const auto add = [&](size_t first, size_t last, int64_t begin, int64_t stop) {
      if (first >= last || begin >= stop) return;
      const double sum = (end[last] - end[first]) * static_cast<double>(stop - begin);
      parts[rank].push_back({first, last, begin, stop, sum});
    };
    const Cut from = cuts[rank], to = cuts[rank + 1];
    if (from.plan == to.plan) {
      add(from.plan, from.plan + 1, from.item, to.item);
      continue;
    }
    if (from.item > 0) add(from.plan, from.plan + 1, from.item, items);
    add(from.item > 0 ? from.plan + 1 : from.plan, to.plan, 0, items);
    add(to.plan, to.plan + 1, 0, to.item);
  }
  return parts;
}

std::vector<int64_t> divide_text(const Prompts& prompts, int64_t first_row, int64_t dense_end, int ranks,
                                 int64_t most_rows) {
  std::vector<int64_t> bounds;  // of trees, from first_row on
  for (const PromptNode& node : prompts.nodes) {
    if (node.parent < 0 && node.row_begin >= first_row) bounds.push_back(node.row_begin);
  }
  bounds.push_back(prompts.rows());
  std::vector<int64_t> ends;
  const auto cut = [&](int64_t begin, int64_t end) {
    if (begin >= end) return;
    const int64_t round = most_rows * ranks, parts = (end - begin + round - 1) / round * ranks;
    for (int64_t part = 1; part <= parts; ++part) {
      const int64_t wanted = begin + (end - begin) * part / parts;
      const auto after = std::lower_bound(bounds.begin(), bounds.end(), wanted);
      int64_t bound = after == bounds.end() ? bounds.back() : *after;
      // the nearer one
      if (after != bounds.begin() && wanted - *(after - 1) < bound - wanted) bound = *(after - 1);
      if (bound > (ends.empty() ? first_row : ends.back())) ends.push_back(bound);
    }
  };
  const int64_t dense = std::clamp(dense_end, first_row, prompts.rows());
  cut(first_row, dense);
  cut(ends.empty() ? first_row : ends.back(), prompts.rows());
  return ends;
}

void RankSpeeds::measured(std::span<const double> cost, std::span<const double> seconds) {
  double sum = 0;
  int64_t count = 0;
  std::vector<double> fresh(speed_.size(), 0.0);
  for (size_t rank = 0; rank < speed_.size(); ++rank) {
    if (cost[rank] <= 0 || seconds[rank] < kShortTime) continue;
    fresh[rank] = cost[rank] / seconds[rank];
    sum += fresh[rank];
    ++count;
  }
  if (count < 2) return;
  for (size_t rank = 0; rank < speed_.size(); ++rank) {
    if (fresh[rank] <= 0) continue;
    const double now =
        std::clamp(fresh[rank] * static_cast<double>(count) / sum, kSlow / kFast, kFast / kSlow);
    speed_[rank] = (speed_[rank] + now) / 2;
  }
}

}  // namespace eep
