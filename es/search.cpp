// The search loop.
#include "es/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

#include "es/algorithms.h"
#include "es/search_state.h"
#include "kernels/common/error.h"

namespace eep {
namespace {

constexpr int64_t kMostIndividuals = int64_t{1} << 20;  // of a generation have addresses

void check_start(const GenomeSpace& space, const WarmStart& start) {
  const auto fail = [&](const std::string& what) {
    throw Error(ExitCode::kConfig, "warm start " + start.name, what);
  };
  if (start.name.empty() || start.name.size() > 255) fail("impossible name (expected 1..255 characters)");
  if (start.genome.groups.size() != space.kept.size()) {
    fail("another number of groups (expected " + std::to_string(space.kept.size()) + ", got " +
         std::to_string(start.genome.groups.size()) + ")");
  }
  for (size_t index = 0; index < space.kept.size(); ++index) {
    const GroupGenes& group = start.genome.groups[index];
    const size_t size = static_cast<size_t>(std::max(group.kept, 0)) * static_cast<size_t>(space.experts);
    if (group.w_em.size() != size || group.w_rm.size() != size) fail("ragged matrix");
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(group.w_em.begin(), group.w_em.end(), finite) ||
        !std::all_of(group.w_rm.begin(), group.w_rm.end(), finite)) {
      fail("a gene that is not finite");
    }
  }
  if (const auto wrong = wrong_counts(space, start.genome)) fail(*wrong);
}

// An algorithm that leaves counts and top_k as they are would search the given ones alone.
void check_counts(const GenomeSpace& space, const SearchConfig& config) {
  const Objectives& wanted = config.objectives;
  const auto refuse = [](const char* field, const std::string& what) {
    throw Error(ExitCode::kConfig, field, what);
  };
  if (wanted.parameters && !space.counts_vary())
    refuse("search.objectives", "parameters do not vary (expected plan.experts with a total, got a number)");
  if (wanted.active && !space.top_k_varies())
    refuse("search.objectives",
           "active experts do not vary (expected plan.top_k with min and max, got a number)");
  const AlgorithmRow& row = find_algorithm(config.prune, Phase::kPrune);
  std::vector<std::string_view> able;
  for (const AlgorithmRow& other : algorithms()) {
    if (wanted.several() ? other.objectives : other.counts) able.push_back(other.name);
  }
  const std::string instead =
      fmt::format(" (expected {}, got {})", fmt::join(able, " or "), config.prune.algorithm);
  if (wanted.several() && !row.objectives)
    refuse("search.prune.algorithm", "it looks for the score alone" + instead);
  if (space.keeps_all() || row.counts) return;
  if (space.counts_vary())
    refuse("search.prune.algorithm", "it leaves the number of experts a layer as it is" + instead);
  if (space.top_k_varies())
    refuse("search.prune.algorithm", "it leaves the number of active experts as it is" + instead);
}

// The candidates of a generation, and which genomes of theirs are evaluated: new ones once each, in order of
// appearance.
struct Generation {
  Generation(std::span<const Candidate> candidates, int32_t count) : experts(count) {
    for (const Candidate& candidate : candidates) hashes.push_back(canonical_hash(candidate.genome, experts));
    results.resize(hashes.size());
    place.assign(hashes.size(), -1);
    fresh.assign(hashes.size(), false);
  }

  void evaluate(size_t candidate, const Genome& genome) {
    const GenomeHash& hash = hashes[candidate];
    std::vector<size_t>& near = places[hash.low];
    const auto same = [&](size_t at) { return genome_hashes[at] == hash; };
    auto found = std::find_if(near.begin(), near.end(), same);
    fresh[candidate] = found == near.end();
    if (fresh[candidate]) {
      near.push_back(genomes.size());
      genome_hashes.push_back(hash);
      genomes.push_back(canonical(genome, experts));
      found = near.end() - 1;
    }
    place[candidate] = static_cast<int64_t>(*found);
  }

  int32_t experts;
  std::vector<GenomeHash> hashes;   // [candidates]
  std::vector<Evaluation> results;  // [candidates] of those that the archive answers
  std::vector<int64_t> place;       // [candidates] in genomes; -1: the archive answers
  std::vector<bool> fresh;          // [candidates] the first one with its genome
  std::vector<Genome> genomes;      // canonical
  std::vector<GenomeHash> genome_hashes;
  std::unordered_map<uint64_t, std::vector<size_t>> places;  // low half of a hash -> indices into genomes
};

}  // namespace

Search::Search(GenomeSpace space, SearchConfig config, std::vector<WarmStart> warm_starts)
    : space_(std::move(space)), config_(resolved(config)), archive_(config_.fitness) {
  check_space(space_);
  check_search_config(config_);
  check_counts(space_, config_);
  check_shards(config_.shards);
  const bool prunes = !space_.keeps_all();
  std::vector<Candidate> one_hot;
  std::vector<Candidate> dense;
  for (WarmStart& start : warm_starts) {
    check_start(space_, start);
    auto& list = is_one_hot(start.genome, space_.experts) ? one_hot : dense;
    list.push_back({std::move(start.genome), std::move(start.name)});
  }
  if (prunes) {
    phases_.push_back({Phase::kPrune, config_.prune.evaluations, std::move(one_hot),
                       make_algorithm(config_.prune, Phase::kPrune)});
  } else {
    // W_EM = W_RM = I is where merging starts; every one-hot start is that very genome.
    dense.insert(dense.begin(), {identity_genome(space_), "full"});
  }
  if (config_.merge.evaluations > 0) {
    phases_.push_back({Phase::kMerge, config_.merge.evaluations, std::move(dense),
                       make_algorithm(config_.merge, Phase::kMerge)});
  }
  if (phases_.empty()) {
    throw Error(ExitCode::kConfig, "search.merge.evaluations",
                "nothing to search: all experts stay (expected 1 or more, got 0)");
  }
  int64_t begin = 0;
  for (PhaseRun& phase : phases_) {
    phase.algorithm->begin({space_, phase.phase, begin, phase.evaluations, phase.starts, config_.seed,
                            config_.shards.shard, config_.shards.items, config_.objectives});
    begin += phase.evaluations;
  }
}

Search::Search(GenomeSpace space, SearchConfig config, std::vector<WarmStart> warm_starts,
               std::string_view state, const char* where)
    : Search(std::move(space), std::move(config), std::move(warm_starts)) {
  std::vector<ArchiveEntry> entries = read_search_state(space_, fingerprint(), state, where);
  const auto damaged = [&](const std::string& what) { throw Error(ExitCode::kData, where, what); };
  if (static_cast<int64_t>(entries.size()) > total_evaluations())
    damaged("more evaluations than the search has");
  uint32_t generation = 0;
  for (size_t begin = 0; begin < entries.size(); ++generation) {
    size_t end = begin;
    while (end < entries.size() && entries[end].generation == generation) ++end;
    if (end == begin) damaged("generations out of order");
    for (size_t i = begin; i < end; ++i) {
      if (entries[i].phase != phases_[phase_index()].phase) damaged("phases out of order");
      archive_.append(std::move(entries[i]));
    }
    told(static_cast<int64_t>(begin), static_cast<int64_t>(end));
    begin = end;
  }
}

int64_t Search::total_evaluations() const {
  int64_t total = 0;
  for (const PhaseRun& phase : phases_) total += phase.evaluations;
  return total;
}

int64_t Search::prune_end() const {
  const int64_t budget = phases_[0].phase == Phase::kPrune ? phases_[0].evaluations : 0;
  return std::min(budget, archive_.size());
}

size_t Search::phase_index() const {
  int64_t end = 0;
  for (size_t index = 0; index < phases_.size(); ++index) {
    end += phases_[index].evaluations;
    if (archive_.size() < end) return index;
  }
  return phases_.size();
}

bool Search::done() const { return archive_.size() >= total_evaluations(); }

void Search::told(int64_t begin, int64_t end) {
  for (PhaseRun& phase : phases_) phase.algorithm->tell(archive_, begin, end);
}

std::pair<int64_t, int64_t> Search::next_shard(const Algorithm& algorithm) const {
  if (config_.shards.shard == 0 || !algorithm.needs().fresh_items) return {-1, 0};
  int64_t at = 0;  // behind the last shard
  if (!archive_.empty()) {
    const ArchiveEntry& last = archive_[archive_.size() - 1];
    if (last.shard >= 0) at = last.shard + last.result.n;
  }
  const int64_t count = algorithm.shard(archive_);
  return {shard_begin(config_.shards, at, count), count};
}

SearchProgress Search::step(const Evaluate& evaluate) {
  return step(EvaluateItems([&](const EvaluationRequest& request) {
    if (!request.items.empty() || request.decisions) {
      throw Error(ExitCode::kConfig, "search", "the evaluator has neither fresh items nor decisions");
    }
    return evaluate(request.genomes);
  }));
}

SearchProgress Search::step(const EvaluateItems& evaluate) {
  const size_t index = phase_index();
  const PhaseRun& phase = phases_.at(index);
  const int64_t phase_begin = index == 0 ? 0 : phases_[0].evaluations;
  const int64_t begin = archive_.size();
  const int64_t left = phase_begin + phase.evaluations - begin;
  const uint32_t generation = archive_.empty() ? 0 : archive_[begin - 1].generation + 1;

  const AlgorithmNeeds needs = phase.algorithm->needs();
  const auto [shard, shard_size] = next_shard(*phase.algorithm);
  const int64_t most = needs.own_generations ? kMostIndividuals : config_.population;
  std::vector<Candidate> candidates =
      phase.algorithm->ask({space_, archive_, phase.phase, phase_begin, phase.starts, config_.seed,
                            generation, static_cast<int32_t>(std::min(most, left))});

  // Equal genomes are answered from the archive, before what it has of this generation makes it forget the
  // decisions of the last one.
  Generation asked(candidates, space_.experts);
  for (size_t i = 0; i < candidates.size(); ++i) {
    const int64_t known = archive_.find(asked.hashes[i], shard);
    const bool lacks = known >= 0 && needs.decisions && archive_[known].result.decisions.empty();
    if (known >= 0 && !lacks) {
      asked.results[i] = archive_[known].result;
    } else {
      asked.evaluate(i, candidates[i].genome);
    }
  }
  std::vector<Evaluation> results;
  std::vector<int32_t> items;
  if (shard >= 0) items = shard_items(config_.shards, config_.seed, shard, shard_size);
  if (!asked.genomes.empty()) results = evaluate({asked.genomes, items, needs.decisions});
  if (results.size() != asked.genomes.size()) {
    throw Error(ExitCode::kRuntime, "search",
                "wrong number of results (expected " + std::to_string(asked.genomes.size()) + ", got " +
                    std::to_string(results.size()) + ")");
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    ArchiveEntry entry;
    entry.shard = shard;
    entry.phase = phase.phase;
    entry.generation = generation;
    entry.origin = std::move(candidates[i].origin);
    entry.genome = std::move(candidates[i].genome);
    entry.hash = asked.hashes[i];
    entry.result =
        asked.place[i] < 0 ? std::move(asked.results[i]) : results[static_cast<size_t>(asked.place[i])];
    entry.cached = !asked.fresh[i];
    archive_.append(std::move(entry));
  }
  told(begin, archive_.size());

  SearchProgress progress;
  progress.phase = phase.phase;
  progress.generation = generation;
  progress.first = begin;
  progress.end = archive_.size();
  progress.total = total_evaluations();
  progress.phase_done = archive_.size() - phase_begin;
  progress.phase_total = phase.evaluations;
  progress.evaluated = static_cast<int64_t>(asked.genomes.size());
  progress.best = handed_over() >= 0 ? handed_over() : archive_.best();
  progress.generation_best = archive_.best(begin, archive_.size());
  progress.phase_ended = progress.phase_done == progress.phase_total;
  progress.ended = done();
  return progress;
}

SearchResult Search::run(const Evaluate& evaluate,
                         const std::function<void(const SearchProgress&)>& on_generation,
                         const std::atomic<bool>* stop) {
  while (!done() && (stop == nullptr || !stop->load())) {
    const SearchProgress progress = step(evaluate);
    if (on_generation) on_generation(progress);
  }
  return result();
}

SearchResult Search::run(const EvaluateItems& evaluate,
                         const std::function<void(const SearchProgress&)>& on_generation,
                         const std::atomic<bool>* stop) {
  while (!done() && (stop == nullptr || !stop->load())) {
    const SearchProgress progress = step(evaluate);
    if (on_generation) on_generation(progress);
  }
  return result();
}

SearchResult Search::result() const {
  SearchResult result;
  result.finished = done();
  if (phases_[0].phase == Phase::kPrune && archive_.size() >= phases_[0].evaluations) {
    result.prune_best = archive_.best(0, prune_end());
  }
  result.best = handed_over() >= 0 ? handed_over() : archive_.best();
  result.evaluations = archive_.size();
  result.unique = archive_.unique();
  return result;
}

int64_t Search::handed_over() const { return phases_.back().algorithm->result(); }

std::vector<int64_t> Search::leaders(int64_t count, bool prune_only) const {
  if (!prune_only && handed_over() >= 0) {
    // The last generation of more than the mean.
    int64_t end = archive_.size();
    int64_t begin = end - 1;
    const auto same = [&](int64_t a, int64_t b) { return archive_[a].generation == archive_[b].generation; };
    for (;;) {
      while (begin > prune_end() && same(begin - 1, begin)) --begin;
      if (end - begin > 1 || begin <= prune_end()) break;
      end = begin--;
    }
    const int64_t best = archive_.best(begin, end);
    if (archive_[best].hash == archive_[handed_over()].hash) return {handed_over()};
    return {handed_over(), best};
  }
  return archive_.best_unique(0, prune_only ? prune_end() : archive_.size(), count);
}

std::string Search::state() const { return write_search_state(space_, fingerprint(), archive_); }

std::string Search::state_of(int64_t begin, int64_t end) const {
  return write_generation(space_, archive_, begin, end);
}

uint64_t Search::fingerprint() const {
  std::vector<WarmStart> starts;
  for (const PhaseRun& phase : phases_) {
    for (const Candidate& start : phase.starts) starts.push_back({start.origin, start.genome});
  }
  return search_fingerprint(space_, config_, starts);
}

}  // namespace eep
