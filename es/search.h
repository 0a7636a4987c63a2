// search: the loop. Phases prune and merge, exact budgets, warm starts, answers from the archive, stopping
// and resuming between generations.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "es/algorithm.h"
#include "es/archive.h"
#include "es/genome.h"
#include "es/search_config.h"

namespace eep {

// A plan that enters the search: one-hot ones (W_RM = W_EM) take the place of the first random initials of
// the prune phase, others, and all of them if every expert is kept, open the merge phase. They count as
// evaluations.
struct WarmStart {
  std::string name;  // origin in the archive
  Genome genome;
};

// Receives different genomes in canonical form that the archive does not know; returns one result each, in
// order. It may throw: the search then stands where it stood before the generation.
using Evaluate = std::function<std::vector<Evaluation>(std::span<const Genome> genomes)>;

// The same on the items that a generation is scored on.
struct EvaluationRequest {
  std::span<const Genome> genomes;
  std::span<const int32_t> items;  // empty: all the fixed ones
  bool decisions = false;          // Evaluation::decisions are read
  bool fixed = false;              // items: places among the fixed ones, not in the stream
  bool values = false;             // Evaluation::items are read
};
using EvaluateItems = std::function<std::vector<Evaluation>(const EvaluationRequest& request)>;

// After every generation.
struct SearchProgress {
  Phase phase = Phase::kPrune;
  uint32_t generation = 0;  // the one just told
  int64_t first = 0;        // evaluations [first, end) of the archive are new
  int64_t end = 0;
  int64_t total = 0;       // evaluations of the whole search
  int64_t phase_done = 0;  // of the phase
  int64_t phase_total = 0;
  int64_t evaluated = 0;  // of this generation, not answered from the archive
  int64_t best = -1;      // so far
  int64_t generation_best = -1;
  bool phase_ended = false;
  bool ended = false;
};

struct SearchResult {
  bool finished = false;    // false: stopped
  int64_t prune_best = -1;  // evaluation; -1 if there is no prune phase or it has not ended
  int64_t best = -1;        // evaluation, over both phases
  int64_t evaluations = 0;
  int64_t unique = 0;
};

class Search {
 public:
  // Throws Error(kConfig) on an impossible space, budget, parameter, algorithm or warm start.
  Search(GenomeSpace space, SearchConfig config, std::vector<WarmStart> warm_starts = {});
  // Goes on from the bytes of state(). Throws Error(kData) if they are damaged, Error(kConfig) if they were
  // written under another space, configuration or other warm starts; `where` names them.
  Search(GenomeSpace space, SearchConfig config, std::vector<WarmStart> warm_starts, std::string_view state,
         const char* where);

  bool done() const;
  // Of the next generation; not when done.
  Phase phase() const { return phases_.at(phase_index()).phase; }
  // One generation.
  SearchProgress step(const EvaluateItems& evaluate);
  // Throws Error(kConfig) where a phase's algorithm reads decisions, or there are fresh items, or races.
  SearchProgress step(const Evaluate& evaluate);
  // Generations until done or *stop, which is looked at between generations.
  SearchResult run(const EvaluateItems& evaluate,
                   const std::function<void(const SearchProgress&)>& on_generation = {},
                   const std::atomic<bool>* stop = nullptr);
  SearchResult run(const Evaluate& evaluate,
                   const std::function<void(const SearchProgress&)>& on_generation = {},
                   const std::atomic<bool>* stop = nullptr);

  // Versioned, checksummed bytes from which a search goes on; valid between generations.
  std::string state() const;
  // What the generation of evaluations [begin, end) adds to them.
  std::string state_of(int64_t begin, int64_t end) const;

  const GenomeSpace& space() const { return space_; }
  const SearchConfig& config() const { return config_; }
  const Archive& archive() const { return archive_; }
  int64_t total_evaluations() const;
  // Evaluations of the prune phase are [0, prune_end()), as far as they are done.
  int64_t prune_end() const;
  SearchResult result() const;
  // The plan of one evaluation.
  ExpertPlan plan(int64_t evaluation) const { return to_plan(space_, archive_[evaluation].genome); }
  // The best `count` different genomes for dev selection: of the prune phase alone, or of everything. Of a
  // merge phase that hands a result over: that and the best of its last generation.
  std::vector<int64_t> leaders(int64_t count, bool prune_only) const;

 private:
  struct PhaseRun {
    Phase phase = Phase::kPrune;
    int64_t evaluations = 0;
    std::vector<Candidate> starts;
    std::unique_ptr<Algorithm> algorithm;
  };

  size_t phase_index() const;  // of the phase that the next generation belongs to; phases_.size() when done
  uint64_t fingerprint() const;
  void told(int64_t begin, int64_t end);
  int64_t handed_over() const;  // by the last phase's algorithm, or -1
  // Where the next generation's items begin in the stream, and how many they are; {-1, 0}: the fixed ones.
  std::pair<int64_t, int64_t> next_shard(const Algorithm& algorithm) const;
  // The evaluation that racing candidates are held against; -1: they see all items.
  int64_t bar(const Algorithm& algorithm) const;
  // One result a genome, with its items' values, and whether it was dropped; leaves the archive as it is.
  std::vector<Evaluation> race(std::span<const Genome> genomes, int64_t bar, const EvaluateItems& evaluate,
                               std::vector<bool>* dropped);
  void forget_values(int64_t bar);

  GenomeSpace space_;
  SearchConfig config_;
  Archive archive_;
  std::vector<PhaseRun> phases_;  // those that the search has, in order
  Leaders leaders_;               // of racing
  // Of evaluations that may be the bar, what racing compares, item by item: a cache, made again where it
  // lacks.
  std::map<int64_t, std::vector<double>> values_;
};

}  // namespace eep
