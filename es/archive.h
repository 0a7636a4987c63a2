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

// One item of a candidate's result.
struct ItemValue {
  double score = 0.0;  // of the metric
  double loglik = 0.0;

  bool operator==(const ItemValue&) const = default;
};

// One candidate's result. A value that is not finite counts as NaN, which ranks last.
struct Evaluation {
  double fitness = 0.0;  // a fraction for metrics, not percent
  // Mean log-likelihood of the right answers: read by kMetricThenLoglik, and by algorithms that rank by it.
  double tiebreak = 0.0;
  int32_t n = 0;                   // items
  Decisions decisions{};           // where the algorithm asks for them
  std::vector<ItemValue> items{};  // [n] where racing asks for them; the archive keeps none

  bool operator==(const Evaluation&) const = default;
};

struct ArchiveEntry {
  int64_t evaluation = 0;  // 0, 1, ...
  Phase phase = Phase::kPrune;
  uint32_t generation = 0;
  std::string origin;  // random, a baseline's name, mutation, crossover
  Genome genome;
  GenomeHash hash;
  Evaluation result;     // decisions: of the last generation alone, unless they are kept
  bool cached = false;   // answered from an equal genome on the same items
  int64_t shard = -1;    // first item in the stream of fresh items (es/shards.h); -1: the fixed items
  bool dropped = false;  // by racing (es/racing.h): the result is that of the fixed items' first result.n

  // Comparable with others that were.
  bool on_all_items() const { return shard < 0 && !dropped; }
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

  // Earliest evaluation of an equal genome on the same items, or -1; a dropped one where it was never seen
  // whole.
  int64_t find(const GenomeHash& hash, int64_t shard = -1) const;

  // Decisions of all generations stay, where an algorithm's state is made of them.
  void keep_decisions() { keeps_decisions_ = true; }

  // entry.evaluation is set to the next number; a value that is not finite becomes NaN. Unless they are kept,
  // decisions of earlier generations are let go: what an algorithm made of them is in the next generation's
  // genomes.
  void append(ArchiveEntry entry);

  // Is a better than b: fitness, then the tie-break where the kind has one; NaN below everything. 1, 0, -1.
  int compare(const Evaluation& a, const Evaluation& b) const;

  // Scores on different items do not compare. The best of evaluations [begin, end) on the fixed items, or
  // where there are none, on the last shard; the earliest of equal ones; -1 if there is none that saw all its
  // items.
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
  bool keeps_decisions_ = false;
};

// One line of archive.jsonl without the line feed. Numbers are the shortest decimal that reads back as the
// same double (so equal lines are equal doubles); NaN is null. `tiebreak` is there for kMetricThenLoglik
// alone, `shard` for evaluations on fresh items.
std::string archive_line(const ArchiveEntry& entry, FitnessKind kind);

}  // namespace eep
