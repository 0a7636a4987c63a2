// The archive and its lines.
#include "es/archive.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace eep {
namespace {

double finite_or_nan(double value) {
  return std::isfinite(value) ? value : std::numeric_limits<double>::quiet_NaN();
}

// NaN below everything.
int compare_values(double a, double b) {
  if (std::isnan(a) || std::isnan(b))
    return static_cast<int>(std::isnan(b)) - static_cast<int>(std::isnan(a));
  return a > b ? 1 : (a < b ? -1 : 0);
}

std::string decimal(double value) {
  if (!std::isfinite(value)) return "null";
  char text[40];
  const auto end = std::to_chars(text, text + sizeof(text), value);
  return std::string(text, end.ptr);
}

}  // namespace

std::span<const std::string_view> fitness_names() {
  static constexpr std::array<std::string_view, 3> kNames{"metric", "metric_then_loglik", "loglik"};
  return kNames;
}

const char* to_string(Phase phase) { return phase == Phase::kPrune ? "prune" : "merge"; }

int64_t Archive::find(const GenomeHash& hash, int64_t shard) const {
  const auto found = first_.find({hash, shard});
  return found == first_.end() ? -1 : found->second;
}

void Archive::append(ArchiveEntry entry) {
  entry.evaluation = size();
  entry.result.fitness = finite_or_nan(entry.result.fitness);
  entry.result.tiebreak = finite_or_nan(entry.result.tiebreak);
  for (; !keeps_decisions_ && with_decisions_ < entries_.size(); ++with_decisions_) {
    if (entries_[with_decisions_].generation == entry.generation) break;
    entries_[with_decisions_].result.decisions = {};
  }
  entry.result.items = {};
  const auto [known, fresh] = first_.try_emplace({entry.hash, entry.shard}, entry.evaluation);
  if (!fresh && !entry.dropped && (*this)[known->second].dropped) known->second = entry.evaluation;
  entries_.push_back(std::move(entry));
}

size_t Archive::bytes() const {
  // A node of the index: its key, its value, a link and a cached hash; and a bucket.
  size_t sum = entries_.capacity() * sizeof(ArchiveEntry) +
               first_.size() * (sizeof(Key) + sizeof(int64_t) + 3 * sizeof(void*));
  for (const ArchiveEntry& entry : entries_) {
    sum += entry.genome.groups.capacity() * sizeof(GroupGenes);
    for (const GroupGenes& group : entry.genome.groups)
      sum += (group.w_em.capacity() + group.w_rm.capacity()) * sizeof(float);
    const Decisions& decisions = entry.result.decisions;
    sum += decisions.values.capacity() * sizeof(float) +
           (decisions.item_end.capacity() + decisions.right.capacity()) * sizeof(int32_t);
  }
  return sum;
}

int Archive::compare(const Evaluation& a, const Evaluation& b) const {
  const int fitness = compare_values(a.fitness, b.fitness);
  if (fitness != 0 || kind_ != FitnessKind::kMetricThenLoglik) return fitness;
  return compare_values(a.tiebreak, b.tiebreak);
}

int64_t Archive::compared_shard(int64_t begin, int64_t end) const {
  for (int64_t i = begin; i < end; ++i) {
    if ((*this)[i].shard < 0) return -1;
  }
  return begin < end ? (*this)[end - 1].shard : -1;
}

int64_t Archive::best(int64_t begin, int64_t end) const {
  const int64_t shard = compared_shard(begin, end);
  int64_t best = -1;
  for (int64_t i = begin; i < end; ++i) {
    if ((*this)[i].shard != shard || (*this)[i].dropped) continue;
    if (best < 0 || compare((*this)[i].result, (*this)[best].result) > 0) best = i;
  }
  return best;
}

std::vector<int64_t> Archive::best_unique(int64_t begin, int64_t end, int64_t count) const {
  const int64_t shard = compared_shard(begin, end);
  std::vector<int64_t> order;
  for (int64_t i = begin; i < end; ++i) {
    if ((*this)[i].shard == shard && !(*this)[i].dropped) order.push_back(i);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return compare((*this)[a].result, (*this)[b].result) > 0; });
  std::vector<int64_t> chosen;
  for (const int64_t i : order) {
    if (static_cast<int64_t>(chosen.size()) >= count) break;
    const auto equal = [&](int64_t other) { return (*this)[other].hash == (*this)[i].hash; };
    if (std::none_of(chosen.begin(), chosen.end(), equal)) chosen.push_back(i);
  }
  return chosen;
}

std::string archive_line(const ArchiveEntry& entry, FitnessKind kind) {
  using nlohmann::json;
  const std::string origin = json(entry.origin).dump(-1, ' ', true, json::error_handler_t::replace);
  std::string line = "{\"evaluation\": " + std::to_string(entry.evaluation);
  line += std::string(", \"phase\": \"") + to_string(entry.phase) + "\"";
  line += ", \"generation\": " + std::to_string(entry.generation);
  line += ", \"origin\": " + origin;
  line += ", \"hash\": \"" + to_string(entry.hash) + "\"";
  line += ", \"fitness\": " + decimal(entry.result.fitness);
  if (kind == FitnessKind::kMetricThenLoglik) line += ", \"tiebreak\": " + decimal(entry.result.tiebreak);
  line += ", \"n\": " + std::to_string(entry.result.n);
  if (entry.shard >= 0) line += ", \"shard\": " + std::to_string(entry.shard);
  if (entry.dropped) line += ", \"dropped\": true";
  line += std::string(", \"cached\": ") + (entry.cached ? "true" : "false") + "}";
  return line;
}

}  // namespace eep
