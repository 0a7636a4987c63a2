// SearchFiles: what a search leaves in the run directory while it goes: the checkpoint, its archive as lines,
// a line of metrics a generation, and the seconds and work so far. A killed run goes on from them.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "engine/forward.h"
#include "es/search.h"
#include "loaders/formats/json.h"

namespace eep {

// Seconds and work of the generations so far, which a resume adds to.
struct SearchSpent {
  double prune = 0, merge = 0;  // seconds
  int64_t computed = 0, asked = 0;
  int64_t kept = 0;                              // tokens whose layers earlier generations had computed
  int64_t steps = 0, drafted = 0, accepted = 0;  // of decoding

  double seconds() const { return prune + merge; }
};

class SearchFiles {
 public:
  // folder: exists, as does its folder checkpoints/.
  SearchFiles(const std::string& folder, FitnessKind fitness);

  // The search of the checkpoint, or a new one; the other files then say what it does. *resumed: which of the
  // two. Throws as Search does.
  std::unique_ptr<Search> open(const GenomeSpace& space, const SearchConfig& config,
                               const std::vector<WarmStart>& starts, bool* resumed);
  // Work is counted from here on.
  void start_clock(const WorkCounts& work);
  // Adds a generation. work: done since the program began.
  void add(const Search& search, const SearchProgress& progress, const WorkCounts& work);

  const SearchSpent& spent() const { return spent_; }

 private:
  std::string state_, times_, archive_, metrics_;  // paths
  FitnessKind fitness_;
  SearchSpent spent_, before_;
  WorkCounts work_before_;
  std::chrono::steady_clock::time_point clock_;
};

}  // namespace eep
