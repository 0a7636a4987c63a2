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

// One candidate's result. A value that is not finite counts as NaN, which ranks last.
struct Evaluation {
  double fitness = 0.0;   // a fraction for metrics, not percent
  double tiebreak = 0.0;  // read for kMetricThenLoglik alone
  int32_t n = 0;          // items

  bool operator==(const Evaluation&) const = default;
};

struct ArchiveEntry {
  int64_t evaluation = 0;  // 0, 1, ...
  Phase phase = Phase::kPrune;
  uint32_t generation = 0;
  std::string origin;  // random, a baseline's name, mutation, crossover
  Genome genome;
  GenomeHash hash;
  Evaluation result;
  bool cached = false;  // answered from an equal genome
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

  // Earliest evaluation of an equal genome, or -1.
  int64_t find(const GenomeHash& hash) const;

  // entry.evaluation is set to the next number; a value that is not finite becomes NaN.
  void append(ArchiveEntry entry);

  // Is a better than b: fitness, then the tie-break where the kind has one; NaN below everything. 1, 0, -1.
  int compare(const Evaluation& a, const Evaluation& b) const;

  // The best of evaluations [begin, end), the earliest of equal ones; -1 if the range is empty.
  int64_t best(int64_t begin, int64_t end) const;
  int64_t best() const { return best(0, size()); }

  // The best `count` different genomes of [begin, end), best first, the earliest of equal ones first.
  std::vector<int64_t> best_unique(int64_t begin, int64_t end, int64_t count) const;

 private:
  struct Hasher {
    size_t operator()(const GenomeHash& hash) const { return static_cast<size_t>(hash.low); }
  };

  FitnessKind kind_;
  std::vector<ArchiveEntry> entries_;
  std::unordered_map<GenomeHash, int64_t, Hasher> first_;
};

// One line of archive.jsonl without the line feed. Numbers are the shortest decimal that reads back as the
// same double (so equal lines are equal doubles); NaN is null. `tiebreak` is there for kMetricThenLoglik
// alone.
std::string archive_line(const ArchiveEntry& entry, FitnessKind kind);

}  // namespace eep
