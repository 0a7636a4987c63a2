// What a search costs beside its evaluations: breeding, ranking, archive and checkpoint of 10,000 evaluations
// at 512 coefficients (8 layer groups, 4 of 8 experts) and at 16,384 (4 groups, 16 of 128). Evaluating is a
// hash here, and its time is left out. Seconds are the thread's own, so that other jobs do not count; waiting
// for a disk is not in them. The share is of a run whose candidates take as long as on the demo model (37 ms
// for 128 items on one core) and, for 16,384, as on Qwen3-30B-A3B and an H100 (128 items of 100 tokens at
// 54,300 tokens/s: 236 ms).
//
//   bench_search [DIRECTORY [ALGORITHM]]   where checkpoints are written, and of which algorithm; default: the
//   working directory, all
#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "bench/sampling.h"
#include "es/algorithms.h"
#include "es/search.h"
#include "kernels/common/error.h"
#include "loaders/formats/file.h"

namespace {

using namespace eep;
using bench::thread_seconds;

constexpr int64_t kEvaluations = 10000;

GenomeSpace space_of(int32_t experts, int32_t kept, int32_t groups) {
  GenomeSpace space;
  space.experts = experts;
  space.top_k = 2;
  for (int32_t group = 0; group < groups; ++group) {
    space.kept.push_back(kept);
    space.layers.push_back({group});
  }
  return space;
}

struct Overhead {
  double search = 0.0, checkpoint = 0.0;  // seconds
  size_t archive = 0, state = 0;          // bytes
};

// The whole budget in the phase that the algorithm searches.
Overhead measure(const GenomeSpace& space, std::string_view name, bool prune, int32_t population,
                 const std::string& file) {
  SearchConfig config{.fitness = FitnessKind::kMetricThenLoglik};
  config.population = population;
  config.prune.evaluations = prune ? kEvaluations : 1;
  config.merge.evaluations = prune ? 0 : kEvaluations;
  (prune ? config.prune : config.merge).algorithm = name;
  Search search(space, config);
  Overhead overhead;
  double evaluating = 0.0;
  const EvaluateItems evaluate = [&](const EvaluationRequest& request) {
    const double start = thread_seconds();
    std::vector<Evaluation> results;
    for (const Genome& genome : request.genomes) {
      const GenomeHash hash = canonical_hash(genome, space.experts);
      Evaluation result{static_cast<double>(hash.low % 129) / 128.0, -static_cast<double>(hash.high % 1000),
                        128};
      if (request.decisions) {
        for (int32_t item = 0; item < 128; ++item) {
          result.decisions.values.push_back(-0.1f - static_cast<float>((hash.low >> (item % 32)) & 7));
          result.decisions.item_end.push_back(item + 1);
          result.decisions.right.push_back(-1);
        }
      }
      results.push_back(std::move(result));
    }
    evaluating += thread_seconds() - start;
    return results;
  };
  const double start = thread_seconds();
  while (!search.done()) {
    const SearchProgress progress = search.step(evaluate);
    const double written = thread_seconds();
    if (progress.first == 0) {
      write_file_atomic(file, search.state());
    } else {
      append_file(file, search.state_of(progress.first, progress.end));
    }
    overhead.checkpoint += thread_seconds() - written;
  }
  overhead.search = thread_seconds() - start - evaluating - overhead.checkpoint;
  overhead.archive = search.archive().bytes();
  overhead.state = search.state().size();
  std::remove(file.c_str());
  return overhead;
}

void report(const GenomeSpace& space, double candidate, double bound, const std::string& file,
            std::string_view only) {
  int64_t coefficients = 0;
  for (const int32_t kept : space.kept) coefficients += 2 * int64_t{kept} * space.experts;
  fmt::print("{} coefficients; {} evaluations of {:.0f} ms take {:.0f} s; bound {:.0f} %\n", coefficients,
             kEvaluations, 1000 * candidate, candidate * kEvaluations, 100 * bound);
  fmt::print("{:<13} {:<6} {:>10} {:>9} {:>12} {:>7} {:>13} {:>12}\n", "algorithm", "phase", "population",
             "search s", "checkpoint s", "share", "archive MB", "state MB");
  for (const AlgorithmRow& row : algorithms()) {
    if (!only.empty() && row.name != only) continue;
    for (const bool prune : {true, false}) {
      if (!(prune ? row.prunes : row.merges) || (prune && space.keeps_all())) continue;
      for (const int32_t population : {1, 32}) {
        if (!prune && !row.prunes && population == 1) continue;  // generations of their own
        const Overhead o = measure(space, row.name, prune, population, file);
        const double share = (o.search + o.checkpoint) / (candidate * static_cast<double>(kEvaluations));
        fmt::print("{:<13} {:<6} {:>10} {:>9.2f} {:>12.2f} {:>6.2f}% {:>13.1f} {:>12.1f}{}\n", row.name,
                   prune ? "prune" : "merge", population, o.search, o.checkpoint, 100 * share,
                   static_cast<double>(o.archive) / 1e6, static_cast<double>(o.state) / 1e6,
                   share > bound ? "  above the bound" : "");
        std::fflush(stdout);
      }
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const std::string file = std::string(count > 1 ? arguments[1] : ".") + "/bench_search.state";
    const std::string_view only = count > 2 ? arguments[2] : "";
    report(space_of(8, 4, 8), 0.037, 0.02, file, only);
    report(space_of(128, 16, 4), 0.236, 0.05, file, only);
  } catch (const Error& error) {
    fmt::print(stderr, "bench_search: {}\n", error.what());
    return 1;
  }
  return 0;
}
