#include "es/racing.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "es/random.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {

void check_racing(const RacingConfig& config) {
  const auto fail = [](const char* name, const char* wanted, double got) {
    throw Error(ExitCode::kConfig, name, "value out of range" + expected_got(wanted, fmt::format("{}", got)));
  };
  if (config.first < 2 || config.first > kMostRaceItems)
    fail("search.racing_items", "2..16777216", config.first);
  if (!(config.errors >= kLeastRaceErrors && config.errors <= kMostRaceErrors))
    fail("search.racing_errors", "1..100", config.errors);
}

std::vector<int64_t> race_sizes(const RacingConfig& config, int64_t items) {
  std::vector<int64_t> sizes;
  for (int64_t size = config.first; size < items; size *= 2) sizes.push_back(size);
  sizes.push_back(items);
  return sizes;
}

std::vector<int32_t> race_order(uint64_t seed, int64_t items) {
  std::vector<int32_t> order(static_cast<size_t>(items));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = 0; i + 1 < order.size(); ++i) {
    const Address address{seed, Purpose::kRace, 0, 0, 0, static_cast<uint32_t>(i), 0};
    std::swap(order[i], order[i + random_below(address, order.size() - i)]);
  }
  return order;
}

bool surely_below(std::span<const double> differences, int64_t items, double errors) {
  const auto n = static_cast<double>(differences.size());
  if (differences.size() < 2) return false;
  double sum = 0.0, largest = 0.0;
  for (const double value : differences) {
    if (std::isnan(value)) return false;  // nothing is known
    sum += value;
    largest = std::max(largest, std::abs(value));
  }
  const double mean = sum / n;
  if (!(mean < 0.0)) return false;
  if (std::isinf(mean)) return true;
  double squares = largest * largest;
  for (const double value : differences) squares += (value - mean) * (value - mean);
  const double left = 1.0 - n / static_cast<double>(items);
  return mean + errors * std::sqrt(squares / (n - 1.0) / n * std::max(0.0, left)) < 0.0;
}

void Leaders::add(const Archive& archive, int64_t evaluation) {
  const ArchiveEntry& entry = archive[evaluation];
  if (!entry.on_all_items()) return;
  const auto better = [&](int64_t a, int64_t b) {
    return archive.compare(archive[a].result, archive[b].result) > 0;
  };
  if (full() && !better(evaluation, best_.back())) return;
  const auto equal = [&](int64_t other) { return archive[other].hash == entry.hash; };
  if (std::any_of(best_.begin(), best_.end(), equal)) return;
  best_.insert(std::upper_bound(best_.begin(), best_.end(), evaluation, better), evaluation);
  if (static_cast<int64_t>(best_.size()) > count_) best_.pop_back();
}

}  // namespace eep
