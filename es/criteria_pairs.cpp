#include "es/criteria_pairs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "es/criteria.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/subsets.h"

namespace eep {
namespace {

constexpr int64_t kMostSets = 20000;    // that are tried one by one
constexpr size_t kLargestCluster = 16;  // REAM's group size

// [experts, experts]
class Pairs {
 public:
  Pairs(std::vector<double> values, size_t experts) : values_(std::move(values)), experts_(experts) {}

  double operator()(size_t i, size_t j) const { return values_[i * experts_ + j]; }
  double cosine(size_t i, size_t j) const {
    const double size = std::sqrt((*this)(i, i)) * std::sqrt((*this)(j, j));
    return size > 0 ? (*this)(i, j) / size : 0;
  }
  double distance(size_t i, size_t j) const {
    return std::sqrt(std::max((*this)(i, i) + (*this)(j, j) - 2 * (*this)(i, j), 0.0));
  }

 private:
  std::vector<double> values_;
  size_t experts_;
};

const LayerStatistics& only_layer(const ExpertStatistics& statistics, const Criterion& criterion,
                                  const std::vector<int32_t>& layers) {
  if (layers.size() != 1) {
    throw Error(ExitCode::kConfig, std::string(criterion.row->name),
                "merges the experts of each layer on its own (expected groups per_layer)");
  }
  return layer_statistics(statistics, layers[0]);
}

Pairs pairs_of(const LayerStatistics& layer, ExpertMatrix matrix, const Criterion& criterion,
               int32_t experts) {
  const auto count = static_cast<size_t>(experts);
  require_statistics(criterion.row->name, layer.layer, layer[matrix].size(), count * count);
  return Pairs(layer[matrix], count);
}

// Sum over P x P.
double removed_norm(const Pairs& pairs, const std::vector<bool>& removed) {
  double sum = 0;
  for (size_t i = 0; i < removed.size(); ++i) {
    for (size_t j = 0; j < removed.size(); ++j) sum += removed[i] && removed[j] ? pairs(i, j) : 0;
  }
  return sum;
}

// A set P of removed experts and, of every expert, the sum over P of its pairs.
struct Removed {
  explicit Removed(size_t experts) : inside(experts, false), cross(experts, 0.0) {}

  void change(const Pairs& pairs, size_t i) {
    inside[i] = !inside[i];
    for (size_t j = 0; j < cross.size(); ++j) cross[j] += inside[i] ? pairs(i, j) : -pairs(i, j);
  }

  std::vector<bool> inside;
  std::vector<double> cross;
};

// Beginning with `first`, the expert that costs least joins P, until `count` have.
Removed greedy_removal(const Pairs& pairs, size_t experts, size_t count, size_t first) {
  Removed removed(experts);
  removed.change(pairs, first);
  for (size_t round = 1; round < count; ++round) {
    size_t best = experts;
    double least = std::numeric_limits<double>::infinity();
    for (size_t i = experts; i-- > 0;) {  // ties remove the highest index
      const double cost = pairs(i, i) + 2 * removed.cross[i];
      if (removed.inside[i] || !(cost < least)) continue;
      least = cost;
      best = i;
    }
    removed.change(pairs, best);
  }
  return removed;
}

// Exchanges of one removed and one kept expert, the best one each time, until none gains.
void improve(const Pairs& pairs, Removed& removed) {
  const size_t experts = removed.cross.size();
  double scale = 0;
  for (size_t i = 0; i < experts; ++i) scale += pairs(i, i);
  for (size_t round = 0; round < experts * experts; ++round) {
    size_t out = 0, in = 0;
    double best = -1e-12 * scale;
    for (size_t i = 0; i < experts; ++i) {
      if (!removed.inside[i]) continue;
      const double leaving = 2 * removed.cross[i] - pairs(i, i);
      for (size_t j = 0; j < experts; ++j) {
        if (removed.inside[j]) continue;
        const double change = pairs(j, j) + 2 * (removed.cross[j] - pairs(i, j)) - leaving;
        if (change >= best) continue;
        best = change;
        out = i;
        in = j;
      }
    }
    if (out == in) return;
    removed.change(pairs, out);
    removed.change(pairs, in);
  }
}

// The best of as many searches as there are experts to begin with.
std::vector<int32_t> best_of_searches(const Pairs& pairs, int32_t experts, int32_t kept) {
  const auto count = static_cast<size_t>(experts);
  std::vector<bool> best;
  double least = std::numeric_limits<double>::infinity();
  for (size_t first = 0; first < count; ++first) {
    Removed removed = greedy_removal(pairs, count, static_cast<size_t>(experts - kept), first);
    improve(pairs, removed);
    const double norm = removed_norm(pairs, removed.inside);
    if (!(norm < least)) continue;
    least = norm;
    best = std::move(removed.inside);
  }
  std::vector<int32_t> stay;
  for (size_t i = 0; i < count; ++i) {
    if (!best[i]) stay.push_back(static_cast<int32_t>(i));
  }
  return stay;
}

std::vector<int32_t> best_of_all(const Pairs& pairs, int32_t experts, int32_t kept) {
  std::vector<int32_t> best;
  double least = std::numeric_limits<double>::infinity();
  for (const std::vector<int32_t>& subset : all_subsets(experts, kept)) {
    std::vector<bool> removed(static_cast<size_t>(experts), true);
    for (const int32_t expert : subset) removed[static_cast<size_t>(expert)] = false;
    const double norm = removed_norm(pairs, removed);
    if (norm < least) {
      least = norm;
      best = subset;
    }
  }
  return best;
}

// Clusters of experts: centroid[c] stands for cluster c, cluster[i] is expert i's.
struct Clusters {
  std::vector<size_t> centroid, cluster;
};

// W_EM and W_RM of clusters; weights [experts], of which a cluster's are divided by their sum.
PlanGroup merged_group(const Clusters& clusters, const std::vector<double>& weights,
                       const std::vector<int32_t>& layers, MergedRouter router) {
  const size_t experts = clusters.cluster.size(), kept = clusters.centroid.size();
  std::vector<size_t> order(kept);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return clusters.centroid[a] < clusters.centroid[b]; });
  PlanGroup group;
  group.layers = layers;
  group.kept = static_cast<int32_t>(kept);
  group.experts = static_cast<int32_t>(experts);
  group.expert_merging.assign(kept * experts, 0.0f);
  group.router_mapping.assign(kept * experts, 0.0f);
  for (size_t row = 0; row < kept; ++row) {
    const size_t own = order[row], centroid = clusters.centroid[own];
    double sum = 0;
    for (size_t i = 0; i < experts; ++i) sum += clusters.cluster[i] == own ? weights[i] : 0;
    for (size_t i = 0; i < experts; ++i) {
      if (clusters.cluster[i] != own) continue;
      // A cluster that nothing was routed to is its centroid.
      const double part = sum > 0 ? weights[i] / sum : i == centroid ? 1 : 0;
      group.expert_merging[row * experts + i] = static_cast<float>(part);
      group.router_mapping[row * experts + i] = router == MergedRouter::kSum       ? 1.0f
                                                : router == MergedRouter::kAverage ? static_cast<float>(part)
                                                : i == centroid                    ? 1.0f
                                                                                   : 0.0f;
    }
  }
  return group;
}

}  // namespace

void require_statistics(std::string_view criterion, int32_t layer, size_t got, size_t expected) {
  if (got == expected) return;
  throw Error(ExitCode::kData, "statistics",
              "layer " + std::to_string(layer) + " lacks what " + std::string(criterion) + " needs" +
                  expected_got(std::to_string(expected) + " numbers", got),
              "calibrate again; sums of several texts that do not add up need one pass over all of them");
}

std::vector<int32_t> select_by_pairs(const ExpertStatistics& statistics, const Criterion& criterion,
                                     int32_t kept, const std::vector<int32_t>& layers, uint32_t /*group*/) {
  const auto experts = static_cast<size_t>(statistics.experts);
  std::vector<double> total(experts * experts, 0.0);
  for (const int32_t layer : layers) {
    const LayerStatistics& each = layer_statistics(statistics, layer);
    const Pairs pairs = pairs_of(each, ExpertMatrix::kInteraction, criterion, statistics.experts);
    double trace = 0;
    for (size_t i = 0; i < experts; ++i) trace += pairs(i, i);
    if (!(trace > 0)) continue;  // says nothing
    for (size_t i = 0; i < total.size(); ++i) total[i] += each[ExpertMatrix::kInteraction][i] / trace;
  }
  const Pairs pairs(std::move(total), experts);
  if (binomial(statistics.experts, kept) <= kMostSets) return best_of_all(pairs, statistics.experts, kept);
  return best_of_searches(pairs, statistics.experts, kept);
}

PlanGroup merge_by_logits(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                          const std::vector<int32_t>& layers) {
  const LayerStatistics& layer = only_layer(statistics, criterion, layers);
  const Pairs logits = pairs_of(layer, ExpertMatrix::kLogitGram, criterion, statistics.experts);
  const std::vector<double>& use = layer[ExpertSum::kCount];
  Clusters clusters;
  for (const int32_t expert : highest(use, kept)) clusters.centroid.push_back(static_cast<size_t>(expert));
  for (size_t i = 0; i < use.size(); ++i) {
    size_t best = 0;
    double most = -std::numeric_limits<double>::infinity();
    for (size_t c = 0; c < clusters.centroid.size(); ++c) {
      const double cosine = i == clusters.centroid[c] ? 2 : logits.cosine(i, clusters.centroid[c]);
      if (cosine > most) {
        most = cosine;
        best = c;
      }
    }
    clusters.cluster.push_back(best);
  }
  return merged_group(clusters, use, layers, criterion.merged_router);
}

PlanGroup merge_by_outputs(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                           const std::vector<int32_t>& layers) {
  const LayerStatistics& layer = only_layer(statistics, criterion, layers);
  const Pairs outputs = pairs_of(layer, ExpertMatrix::kOutputGram, criterion, statistics.experts);
  const auto experts = static_cast<size_t>(statistics.experts);
  const std::vector<double>& use = layer[ExpertSum::kCount];
  std::vector<double> distance(experts * experts);
  for (size_t i = 0; i < experts; ++i) {
    for (size_t j = 0; j < experts; ++j) distance[i * experts + j] = outputs.distance(i, j);
  }
  std::vector<size_t> size(experts, 1), cluster(experts);
  std::iota(cluster.begin(), cluster.end(), size_t{0});
  for (size_t left = experts; left > static_cast<size_t>(kept); --left) {
    size_t a = 0, b = 0;
    double least = std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < experts; ++i) {
      for (size_t j = i + 1; j < experts; ++j) {
        if (size[i] == 0 || size[j] == 0 || !(distance[i * experts + j] < least)) continue;
        least = distance[i * experts + j];
        a = i;
        b = j;
      }
    }
    for (size_t i = 0; i < experts; ++i) {  // the mean over pairs of members
      const double mean = (static_cast<double>(size[a]) * distance[a * experts + i] +
                           static_cast<double>(size[b]) * distance[b * experts + i]) /
                          static_cast<double>(size[a] + size[b]);
      distance[a * experts + i] = distance[i * experts + a] = mean;
    }
    size[a] += size[b];
    size[b] = 0;
    std::replace(cluster.begin(), cluster.end(), b, a);
  }
  Clusters clusters;
  std::vector<size_t> number(experts, experts);
  for (size_t i = 0; i < experts; ++i) {
    size_t& own = number[cluster[i]];
    if (own == experts) {
      own = clusters.centroid.size();
      clusters.centroid.push_back(i);
    }
    if (use[i] > use[clusters.centroid[own]]) clusters.centroid[own] = i;  // the most used one stands for it
    clusters.cluster.push_back(own);
  }
  return merged_group(clusters, use, layers, criterion.merged_router);
}

PlanGroup merge_by_saliency(const ExpertStatistics& statistics, const Criterion& criterion, int32_t kept,
                            const std::vector<int32_t>& layers) {
  const LayerStatistics& layer = only_layer(statistics, criterion, layers);
  const Pairs outputs = pairs_of(layer, ExpertMatrix::kGatedOutputGram, criterion, statistics.experts);
  const Pairs logits = pairs_of(layer, ExpertMatrix::kLogitGram, criterion, statistics.experts);
  std::vector<double> saliency = find_criterion("reap_probability").scores(layer);
  double least = std::numeric_limits<double>::infinity();
  for (const double value : saliency) least = value > 0 ? std::min(least, value) : least;
  for (double& value : saliency) value = value > 0 ? value : std::isfinite(least) ? least : 1;

  Clusters clusters;
  for (const int32_t expert : highest(saliency, kept))
    clusters.centroid.push_back(static_cast<size_t>(expert));
  std::stable_sort(clusters.centroid.begin(), clusters.centroid.end(),
                   [&](size_t a, size_t b) { return saliency[a] > saliency[b]; });
  const size_t experts = saliency.size(), none = clusters.centroid.size();
  clusters.cluster.assign(experts, none);
  for (size_t c = 0; c < none; ++c) clusters.cluster[clusters.centroid[c]] = c;
  const auto similarity = [&](size_t i, size_t j) {
    return ((1 + outputs.cosine(i, j)) / 2 + (1 + logits.cosine(i, j)) / 2) / 2;
  };
  // Beyond the size of a group the rest goes round again.
  for (bool left = true; left;) {
    left = false;
    for (size_t c = 0; c < none; ++c) {
      for (size_t taken = 1; taken < kLargestCluster; ++taken) {
        size_t best = experts;
        for (size_t i = 0; i < experts; ++i) {
          if (clusters.cluster[i] != none) continue;
          if (best == experts ||
              similarity(i, clusters.centroid[c]) > similarity(best, clusters.centroid[c])) {
            best = i;
          }
        }
        if (best == experts) return merged_group(clusters, saliency, layers, criterion.merged_router);
        clusters.cluster[best] = c;
        left = true;
      }
    }
  }
  return merged_group(clusters, saliency, layers, criterion.merged_router);
}

}  // namespace eep
