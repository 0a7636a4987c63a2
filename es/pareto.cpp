#include "es/pareto.h"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <numeric>

#include "es/racing.h"

namespace eep {
namespace {

constexpr size_t kObjectives = 3;

struct Point {
  int64_t evaluation = 0;
  std::array<int64_t, kObjectives> cost{};  // rank of the score, kept, active; 0 where it is no objective
};

bool dominates(const Point& a, const Point& b) {
  bool better = false;
  for (size_t i = 0; i < kObjectives; ++i) {
    if (a.cost[i] > b.cost[i]) return false;
    better = better || a.cost[i] < b.cost[i];
  }
  return better;
}

// Different genomes, best score first, then the earliest.
std::vector<Point> points_of(const Archive& archive, const GenomeSpace& space, Objectives objectives,
                             std::span<const int64_t> evaluations) {
  std::vector<int64_t> order(evaluations.begin(), evaluations.end());
  std::sort(order.begin(), order.end());
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return archive.compare(archive[a].result, archive[b].result) > 0;
  });
  std::vector<Point> points;
  std::map<GenomeHash, bool> seen;
  for (const int64_t evaluation : order) {
    if (!seen.try_emplace(archive[evaluation].hash, true).second) continue;
    const GenomeSize size = genome_size(space, archive[evaluation].genome);
    Point point{evaluation, {0, objectives.parameters ? size.kept : 0, objectives.active ? size.active : 0}};
    if (!points.empty()) {
      const Point& last = points.back();
      const bool worse = archive.compare(archive[last.evaluation].result, archive[evaluation].result) > 0;
      point.cost[0] = last.cost[0] + (worse ? 1 : 0);
    }
    points.push_back(point);
  }
  return points;
}

// The gap around each point of a front, over all objectives; its ends are infinite.
std::vector<double> crowding(std::span<const Point> front) {
  std::vector<double> gap(front.size(), 0.0);
  std::vector<size_t> order(front.size());
  for (size_t objective = 0; objective < kObjectives; ++objective) {
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return front[a].cost[objective] < front[b].cost[objective]; });
    const auto cost = [&](size_t place) { return static_cast<double>(front[order[place]].cost[objective]); };
    const double range = cost(order.size() - 1) - cost(0);
    if (!(range > 0.0)) continue;
    gap[order.front()] = gap[order.back()] = std::numeric_limits<double>::infinity();
    for (size_t place = 1; place + 1 < order.size(); ++place)
      gap[order[place]] += (cost(place + 1) - cost(place - 1)) / range;
  }
  return gap;
}

}  // namespace

GenomeSize genome_size(const GenomeSpace& space, const Genome& genome) {
  const int32_t top_k = genome.top_k > 0 ? genome.top_k : space.top_k;
  GenomeSize size;
  for (size_t group = 0; group < genome.groups.size(); ++group) {
    const auto layers = static_cast<int64_t>(space.layers[group].size());
    size.kept += layers * genome.groups[group].kept;
    size.active += layers * std::min(top_k, genome.groups[group].kept);
  }
  return size;
}

std::vector<int64_t> pareto_best(const Archive& archive, const GenomeSpace& space, Objectives objectives,
                                 std::span<const int64_t> evaluations, int64_t count) {
  std::vector<Point> left = points_of(archive, space, objectives, evaluations);
  std::vector<int64_t> chosen;
  while (!left.empty() && static_cast<int64_t>(chosen.size()) < count) {
    std::vector<Point> front, rest;
    for (const Point& point : left) {
      const bool beaten =
          std::any_of(left.begin(), left.end(), [&](const Point& other) { return dominates(other, point); });
      (beaten ? rest : front).push_back(point);
    }
    const std::vector<double> gap = crowding(front);
    std::vector<size_t> order(front.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return gap[a] > gap[b]; });
    for (const size_t place : order) {
      if (static_cast<int64_t>(chosen.size()) < count) chosen.push_back(front[place].evaluation);
    }
    left = std::move(rest);
  }
  return chosen;
}

std::vector<std::vector<int64_t>> best_of_sizes(const Archive& archive, const GenomeSpace& space,
                                                Objectives objectives, int64_t count) {
  std::map<GenomeSize, Leaders> sizes;
  for (const ArchiveEntry& entry : archive.entries()) {
    GenomeSize size = genome_size(space, entry.genome);
    if (!objectives.parameters) size.kept = 0;
    if (!objectives.active) size.active = 0;
    if (entry.on_all_items()) sizes.try_emplace(size, count).first->second.add(archive, entry.evaluation);
  }
  std::vector<std::vector<int64_t>> best;
  for (const auto& [size, leaders] : sizes) best.push_back(leaders.best());
  return best;
}

std::vector<int64_t> pareto_front(const Archive& archive, const GenomeSpace& space, Objectives objectives) {
  std::map<GenomeSize, int64_t> best;
  for (const ArchiveEntry& entry : archive.entries()) {
    if (entry.shard >= 0) continue;
    GenomeSize size = genome_size(space, entry.genome);
    if (!objectives.parameters) size.kept = 0;
    if (!objectives.active) size.active = 0;
    const auto [at, fresh] = best.try_emplace(size, entry.evaluation);
    if (!fresh && archive.compare(entry.result, archive[at->second].result) > 0)
      at->second = entry.evaluation;
  }
  std::vector<int64_t> evaluations;
  for (const auto& [size, evaluation] : best) evaluations.push_back(evaluation);
  const std::vector<Point> points = points_of(archive, space, objectives, evaluations);
  std::vector<int64_t> front;
  for (const int64_t evaluation : evaluations) {
    const auto own = std::find_if(points.begin(), points.end(),
                                  [&](const Point& point) { return point.evaluation == evaluation; });
    if (own == points.end()) continue;
    const bool beaten =
        std::any_of(points.begin(), points.end(), [&](const Point& other) { return dominates(other, *own); });
    if (!beaten) front.push_back(evaluation);
  }
  return front;
}

}  // namespace eep
