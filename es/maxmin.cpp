// The selection that serves the worst covered domain best. Coverage of a domain: mean over groups of the
// share of its scores that kept experts have. For weights w over domains the best selection is the highest
// sums w_d s_d in each group, and the least covered domain's coverage is at most the best weighted mean: so
// weights are moved towards what is covered least. What single exchanges can still gain is taken then.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "es/blend.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/scalar_math.h"

namespace eep {
namespace {

constexpr int kRounds = 400;
constexpr double kStep = 8;                // of the first round; falls with the root of the round
constexpr int64_t kMostWork = 2000000000;  // sums of exchanges that are looked at

struct Search {
  size_t domains, groups, experts, kept;
  std::vector<double> share;  // [domains, groups, experts], each group's sum 1 or all 0

  double at(size_t domain, size_t group, size_t expert) const {
    return share[(domain * groups + group) * experts + expert];
  }
};

using Selection = std::vector<std::vector<int32_t>>;  // [groups] ascending

std::vector<double> coverages(const Search& search, const Selection& selection) {
  std::vector<double> covered(search.domains, 0.0);
  for (size_t d = 0; d < search.domains; ++d) {
    for (size_t g = 0; g < search.groups; ++g) {
      for (const int32_t expert : selection[g]) covered[d] += search.at(d, g, static_cast<size_t>(expert));
    }
    covered[d] /= static_cast<double>(search.groups);
  }
  return covered;
}

Selection select(const Search& search, const std::vector<double>& weight) {
  Selection selection;
  for (size_t g = 0; g < search.groups; ++g) {
    std::vector<double> total(search.experts, 0.0);
    for (size_t d = 0; d < search.domains; ++d) {
      for (size_t e = 0; e < search.experts; ++e) total[e] += weight[d] * search.at(d, g, e);
    }
    selection.push_back(highest(total, static_cast<int32_t>(search.kept)));
  }
  return selection;
}

double least(const std::vector<double>& values) { return *std::min_element(values.begin(), values.end()); }

void normalise(std::vector<double>& weight) {
  const double sum = std::accumulate(weight.begin(), weight.end(), 0.0);
  for (double& value : weight) value /= sum;
}

// Multiplicative weights; the best selection on the way, and the weights that made it.
Selection by_weights(const Search& search, std::vector<double> weight, std::vector<double>* best_weight) {
  Selection best;
  double most = -1;
  for (int round = 0; round < kRounds; ++round) {
    Selection selection = select(search, weight);
    const std::vector<double> covered = coverages(search, selection);
    if (least(covered) > most) {
      most = least(covered);
      best = std::move(selection);
      *best_weight = weight;
    }
    const double step = kStep / std::sqrt(static_cast<double>(round + 1));
    for (size_t d = 0; d < weight.size(); ++d)
      weight[d] = std::max(weight[d] * exponential_double(step * (least(covered) - covered[d])), 1e-9);
    normalise(weight);
  }
  return best;
}

// The exchange of one kept and one other expert that raises the least coverage most, until none does.
void improve(const Search& search, Selection& selection) {
  const int64_t pass = static_cast<int64_t>(search.domains * search.groups * search.kept) *
                       static_cast<int64_t>(search.experts - search.kept);
  for (int64_t work = pass; work < kMostWork; work += pass) {
    const std::vector<double> covered = coverages(search, selection);
    double best = least(covered) + 1e-12;
    size_t group = search.groups, place = 0;
    int32_t in = 0;
    for (size_t g = 0; g < search.groups; ++g) {
      for (size_t k = 0; k < selection[g].size(); ++k) {
        const auto out = static_cast<size_t>(selection[g][k]);
        for (size_t e = 0; e < search.experts; ++e) {
          if (std::binary_search(selection[g].begin(), selection[g].end(), static_cast<int32_t>(e))) continue;
          double worst = 2;
          for (size_t d = 0; d < search.domains && worst > best; ++d) {
            const double change =
                (search.at(d, g, e) - search.at(d, g, out)) / static_cast<double>(search.groups);
            worst = std::min(worst, covered[d] + change);
          }
          if (worst <= best) continue;
          best = worst;
          group = g;
          place = k;
          in = static_cast<int32_t>(e);
        }
      }
    }
    if (group == search.groups) return;
    selection[group][place] = in;
    std::sort(selection[group].begin(), selection[group].end());
  }
}

}  // namespace

ExpertPlan maxmin_plan(std::span<const Domain> domains, const Criterion& criterion, int32_t kept,
                       const std::vector<std::vector<int32_t>>& groups, int32_t top_k,
                       RouterSpace router_space, std::vector<double>* weights) {
  const ExpertStatistics& first = domains.front().file.statistics;
  if (criterion.row->scores == nullptr) {
    throw Error(
        ExitCode::kUsage, "--maxmin",
        std::string(criterion.row->name) + " gives no score to single experts (expected one that does)",
        "reap, frequency and most others do");
  }
  if (kept < 1 || kept > first.experts) {
    throw Error(
        ExitCode::kConfig, "plan.experts",
        "impossible number of kept experts" + expected_got("1.." + std::to_string(first.experts), kept));
  }
  Search search{
      domains.size(), groups.size(), static_cast<size_t>(first.experts), static_cast<size_t>(kept), {}};
  for (const Domain& domain : domains) {
    for (const std::vector<int32_t>& layers : groups) {
      std::vector<double> scores = group_scores(domain.file.statistics, *criterion.row, layers);
      const double sum = std::accumulate(scores.begin(), scores.end(), 0.0);
      for (double& score : scores) score = sum > 0 ? score / sum : 0.0;
      search.share.insert(search.share.end(), scores.begin(), scores.end());
    }
  }
  std::vector<double> weight;
  for (const Domain& domain : domains) weight.push_back(domain.weight);
  normalise(weight);
  Selection selection = by_weights(search, weight, weights);
  improve(search, selection);
  ExpertPlan plan;
  plan.top_k = top_k;
  plan.router_space = router_space;
  for (size_t g = 0; g < groups.size(); ++g)
    plan.groups.push_back(one_hot_group(groups[g], selection[g], first.experts));
  return plan;
}

}  // namespace eep
