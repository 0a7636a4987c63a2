// The table of algorithms and the first candidates of a phase.
#include "es/algorithm.h"

#include <algorithm>
#include <array>

#include "es/algorithms.h"
#include "kernels/error.h"

namespace eep {
namespace {

// Far beyond what a space with unseen genomes needs: of 31 with one unseen, (30/31)^10000 < 1e-142.
constexpr uint32_t kMaxRedraws = 10000;

constexpr std::array<std::string_view, 4> kNames = {"eep", "eep_released", "hill_climb", "random"};

}  // namespace

std::span<const std::string_view> algorithm_names() { return kNames; }

std::unique_ptr<Algorithm> make_algorithm(const std::string& name, const OperatorParameters& parameters) {
  if (name == "eep") return make_eep(parameters);
  if (name == "eep_released") return make_eep_released(parameters);
  if (name == "hill_climb") return make_hill_climb(parameters);
  if (name == "random") return make_random(parameters);
  std::string known;
  for (const std::string_view each : kNames) known += (known.empty() ? "" : ", ") + std::string(each);
  throw Error(ExitCode::kConfig, "search", "unknown algorithm (expected " + known + ", got " + name + ")");
}

std::vector<Candidate> initial_candidates(const AskContext& context, int64_t initial, bool distinct) {
  const auto given = static_cast<int64_t>(context.starts.size());
  const int64_t begin = context.archive.size() - context.phase_begin;
  // Compared as a difference: `initial` may be as large as an int64_t is.
  const int64_t left = std::max(given, initial) - begin;
  const int64_t count = std::min<int64_t>(context.count, left);
  const int64_t space_size = one_hot_count(context.space);

  std::vector<Candidate> candidates;
  std::vector<GenomeHash> hashes;  // of this batch that the archive does not have
  for (int64_t i = 0; i < count; ++i) {
    Candidate candidate;
    if (begin + i < given) {
      candidate = context.starts[static_cast<size_t>(begin + i)];
    } else {
      candidate.origin = "random";
    }
    const Child child{context.seed, context.generation, static_cast<uint32_t>(i)};
    const auto seen = [&](const GenomeHash& hash) {
      return context.archive.find(hash) >= 0 || std::find(hashes.begin(), hashes.end(), hash) != hashes.end();
    };
    GenomeHash hash;
    if (begin + i < given) {
      hash = canonical_hash(candidate.genome, context.space.experts);
    } else {
      const bool unseen_left = context.archive.unique() + static_cast<int64_t>(hashes.size()) < space_size;
      const uint32_t attempts = distinct && unseen_left ? kMaxRedraws : 1;
      for (uint32_t attempt = 0; attempt < attempts; ++attempt) {
        candidate.genome = random_one_hot(context.space, child, attempt);
        hash = canonical_hash(candidate.genome, context.space.experts);
        if (!seen(hash)) break;
      }
    }
    if (!seen(hash)) hashes.push_back(hash);
    candidates.push_back(std::move(candidate));
  }
  return candidates;
}

}  // namespace eep
