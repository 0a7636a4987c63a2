#include "es/distribution.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "es/coordinates.h"
#include "es/random.h"

namespace eep {

void Distribution::begin(PhaseSetting setting) {
  setting_ = std::move(setting);
  if (!setting_.starts.empty()) start_at(setting_.starts.back().genome);
}

void Distribution::start_at(const Genome& genome) {
  shape_ = genome;
  start(genome, to_coordinates(genome));
}

std::vector<Candidate> Distribution::ask(const AskContext& context) const {
  // One evaluation is for the mean.
  const int64_t left = setting_.phase_begin + setting_.evaluations - context.archive.size();
  const int64_t units = (left - 1) / unit();
  const int64_t generations = std::max<int64_t>(1, units / std::max<int64_t>(1, samples() / unit()));
  const int64_t count = std::min<int64_t>(units / generations, context.count / unit()) * unit();
  std::vector<Candidate> candidates;
  if (count == 0) {
    candidates.push_back({from_coordinates(shape_, mean()), "mean"});
    return candidates;
  }
  const std::vector<double> points = draw(context.generation, count);
  const size_t d = mean().size();
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    candidates.push_back({from_coordinates(shape_, std::span(points).subspan(i * d, d)), "sample"});
  }
  return candidates;
}

void Distribution::tell(const Archive& archive, int64_t begin, int64_t end) {
  if (begin < setting_.phase_begin) {
    if (end == setting_.phase_begin && shape_.groups.empty()) {
      start_at(archive[archive.best(0, end)].genome);
    }
    return;
  }
  if (begin >= setting_.phase_begin + setting_.evaluations) return;
  if (archive[begin].origin == "mean") {
    result_ = begin;
    return;
  }
  std::vector<double> value;
  for (int64_t i = begin; i < end; ++i) value.push_back(archive[i].result.tiebreak);
  update(archive[begin].generation, value, begin - setting_.phase_begin, setting_.evaluations);
}

const std::vector<double>& Distribution::normals(uint32_t generation, int64_t count) const {
  const size_t d = mean().size();
  if (normals_generation_ == generation && normals_.size() == static_cast<size_t>(count) * d) return normals_;
  normals_.clear();
  normals_.reserve(static_cast<size_t>(count) * d);
  for (uint32_t individual = 0; individual < static_cast<uint32_t>(count); ++individual) {
    for (size_t i = 0; i < d; ++i) {
      normals_.push_back(random_normal({setting_.seed, Purpose::kSample, generation, individual, 0,
                                        static_cast<uint32_t>(i >> 16), static_cast<uint32_t>(i & 0xffff)}));
    }
  }
  normals_generation_ = generation;
  return normals_;
}

std::vector<size_t> best_first(std::span<const double> value) {
  std::vector<size_t> order(value.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (std::isnan(value[a]) || std::isnan(value[b])) return !std::isnan(value[a]) && std::isnan(value[b]);
    return value[a] > value[b];
  });
  return order;
}

}  // namespace eep
