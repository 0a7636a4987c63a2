// archive: every evaluation of a search, in a fixed order. Nothing is ever removed; an equal genome is
// answered from it. It is the whole state of a search: algorithms derive theirs from it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "es/genome.h"

namespace eep {

enum class Phase : uint8_t { kPrune = 0, kMerge = 1 };
const char* to_string(Phase phase);

// What the search maximises: the task metric (the paper); the metric with ties broken by the mean
// log-likelihood of the right answers; that log-likelihood alone.
enum class FitnessKind : uint8_t { kMetric = 0, kMetricThenLoglik = 1, kLoglik = 2 };
// metric, metric_then_loglik, loglik
std::span<const std::string_view> fitness_names();

// Log-probabilities of the decisions of one candidate, item by item: of each token of a right answer, its end
// included, or of every choice.
struct Decisions {
  std::vector<float> values;
  std::vector<int32_t> item_end;  // [items] end of each item's values
  std::vector<int32_t> right;     // [items] the right choice among an item's values; -1: tokens

  bool empty() const { return item_end.empty(); }
  bool operator==(const Decisions&) const = default;
};

// One candidate's result. A value that is not finite counts as NaN, which ranks last.
struct Evaluation {
  double fitness = 0.0;  // a fraction for metrics, not percent
  // Mean log-likelihood of the right answers: read by kMetricThenLoglik, and by algorithms that rank by it.
  double tiebreak = 0.0;
  int32_t n = 0;          // items
  Decisions decisions{};  // where the algorithm asks for them

  bool operator==(const Evaluation&) const = default;
};

struct ArchiveEntry {
  int64_t evaluation = 0;  // 0, 1, ...
  Phase phase = Phase::kPrune;
  uint32_t generation = 0;
  std::string origin;  // random, a baseline's name, mutation, crossover
  Genome genome;
  GenomeHash hash;
  Evaluation result;    // decisions: of the last generation alone
  bool cached = false;  // answered from an equal genome on the same items
  int64_t shard = -1;   // first item in the stream of fresh items (es/shards.h); -1: the fixed items
};

class Archive {
 public:
  explicit Archive(FitnessKind kind) : kind_(kind) {}

  FitnessKind fitness_kind() const { return kind_; }
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }
  bool empty() const { return entries_.empty(); }
  const ArchiveEntry& operator[](int64_t evaluation) const {
    return entries_[static_cast<size_t>(evaluation)];
  }
  const std::vector<ArchiveEntry>& entries() const { return entries_; }
  int64_t unique() const { return static_cast<int64_t>(first_.size()); }
  // Memory that it holds, but for what the allocator adds: about 300 and the genome's coefficients, 4 each,
  // an evaluation.
  size_t bytes() const;

  // Earliest evaluation of an equal genome on the same items, or -1.
  int64_t find(const GenomeHash& hash, int64_t shard = -1) const;

  // entry.evaluation is set to the next number; a value that is not finite becomes NaN. Decisions of earlier
  // generations are let go: what an algorithm made of them is in the next generation's genomes.
  void append(ArchiveEntry entry);

  // Is a better than b: fitness, then the tie-break where the kind has one; NaN below everything. 1, 0, -1.
  int compare(const Evaluation& a, const Evaluation& b) const;

  // Scores on different items do not compare. The best of evaluations [begin, end) on the fixed items, or
  // where there are none, on the last shard; the earliest of equal ones; -1 if the range is empty.
  int64_t best(int64_t begin, int64_t end) const;
  int64_t best() const { return best(0, size()); }

  // The best `count` different genomes among the same evaluations, best first, the earliest of equal ones
  // first.
  std::vector<int64_t> best_unique(int64_t begin, int64_t end, int64_t count) const;

 private:
  struct Key {
    GenomeHash genome;
    int64_t shard = -1;

    bool operator==(const Key&) const = default;
  };
  struct Hasher {
    size_t operator()(const Key& key) const {
      return static_cast<size_t>(key.genome.low ^ static_cast<uint64_t>(key.shard));
    }
  };
  // The items on which evaluations [begin, end) compare.
  int64_t compared_shard(int64_t begin, int64_t end) const;

  FitnessKind kind_;
  std::vector<ArchiveEntry> entries_;
  std::unordered_map<Key, int64_t, Hasher> first_;
  size_t with_decisions_ = 0;  // entries from here on may have decisions
};

// One line of archive.jsonl without the line feed. Numbers are the shortest decimal that reads back as the
// same double (so equal lines are equal doubles); NaN is null. `tiebreak` is there for kMetricThenLoglik
// alone, `shard` for evaluations on fresh items.
std::string archive_line(const ArchiveEntry& entry, FitnessKind kind);

}  // namespace eep
