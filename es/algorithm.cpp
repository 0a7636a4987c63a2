// The table of algorithms and the first candidates of a phase.
#include "es/algorithm.h"

#include <fmt/format.h>

#include <algorithm>

#include "es/algorithms.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

// Far beyond what a space with unseen genomes needs: of 31 with one unseen, (30/31)^10000 < 1e-142.
constexpr uint32_t kMaxRedraws = 10000;

bool searches(const AlgorithmRow& row, Phase phase) {
  return phase == Phase::kPrune ? row.prunes : row.merges;
}

}  // namespace

std::vector<std::string_view> algorithm_names() {
  std::vector<std::string_view> names;
  for (const AlgorithmRow& row : algorithms()) names.push_back(row.name);
  return names;
}

std::vector<std::string_view> algorithm_names(Phase phase) {
  std::vector<std::string_view> names;
  for (const AlgorithmRow& row : algorithms()) {
    if (searches(row, phase)) names.push_back(row.name);
  }
  return names;
}

std::vector<Parameters> default_own_parameters() {
  std::vector<Parameters> own;
  for (const AlgorithmRow& row : algorithms()) own.push_back(row.own);
  return own;
}

const AlgorithmRow& find_algorithm(const PhaseConfig& config, Phase phase) {
  for (const AlgorithmRow& row : algorithms()) {
    if (row.name == config.algorithm && searches(row, phase)) return row;
  }
  throw Error(ExitCode::kConfig, fmt::format("search.{}.algorithm", to_string(phase)),
              "unknown algorithm" +
                  expected_got(fmt::format("{}", fmt::join(algorithm_names(phase), ", ")), config.algorithm));
}

std::unique_ptr<Algorithm> make_algorithm(const PhaseConfig& config, Phase phase) {
  const AlgorithmRow& row = find_algorithm(config, phase);
  const auto index = static_cast<size_t>(&row - algorithms().data());
  return row.make(config.parameters, config.own.at(index));
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
