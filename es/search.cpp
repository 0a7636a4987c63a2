// The search loop.
#include "es/search.h"

#include <algorithm>
#include <cmath>
#include <unordered_map>
#include <utility>

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
    const size_t size = static_cast<size_t>(space.kept[index]) * static_cast<size_t>(space.experts);
    if (group.kept != space.kept[index]) {
      fail("another number of kept experts (expected " + std::to_string(space.kept[index]) + ", got " +
           std::to_string(group.kept) + ")");
    }
    if (group.w_em.size() != size || group.w_rm.size() != size) fail("ragged matrix");
    const auto finite = [](float value) { return std::isfinite(value); };
    if (!std::all_of(group.w_em.begin(), group.w_em.end(), finite) ||
        !std::all_of(group.w_rm.begin(), group.w_rm.end(), finite)) {
      fail("a gene that is not finite");
    }
  }
}

}  // namespace

Search::Search(GenomeSpace space, SearchConfig config, std::vector<WarmStart> warm_starts)
    : space_(std::move(space)), config_(resolved(config)), archive_(config_.fitness) {
  check_space(space_);
  check_search_config(config_);
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
                            config_.shards.shard, config_.shards.items});
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

  // New genomes once each, in order of appearance.
  std::vector<GenomeHash> hashes;
  std::vector<Genome> genomes;
  std::unordered_map<uint64_t, std::vector<size_t>> places;  // low half of the hash -> indices into genomes
  std::vector<size_t> place(candidates.size(), 0);
  std::vector<bool> fresh(candidates.size(), false);
  std::vector<GenomeHash> genome_hashes;
  for (size_t i = 0; i < candidates.size(); ++i) {
    hashes.push_back(canonical_hash(candidates[i].genome, space_.experts));
    if (archive_.find(hashes[i], shard) >= 0) continue;
    std::vector<size_t>& known = places[hashes[i].low];
    const auto same = [&](size_t at) { return genome_hashes[at] == hashes[i]; };
    const auto found = std::find_if(known.begin(), known.end(), same);
    if (found != known.end()) {
      place[i] = *found;
      continue;
    }
    place[i] = genomes.size();
    fresh[i] = true;
    known.push_back(genomes.size());
    genome_hashes.push_back(hashes[i]);
    genomes.push_back(canonical(candidates[i].genome, space_.experts));
  }
  std::vector<Evaluation> results;
  std::vector<int32_t> items;
  if (shard >= 0) items = shard_items(config_.shards, config_.seed, shard, shard_size);
  if (!genomes.empty()) results = evaluate({genomes, items, needs.decisions});
  if (results.size() != genomes.size()) {
    throw Error(ExitCode::kRuntime, "search",
                "wrong number of results (expected " + std::to_string(genomes.size()) + ", got " +
                    std::to_string(results.size()) + ")");
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    const int64_t known = archive_.find(hashes[i], shard);
    ArchiveEntry entry;
    entry.shard = shard;
    entry.phase = phase.phase;
    entry.generation = generation;
    entry.origin = std::move(candidates[i].origin);
    entry.genome = std::move(candidates[i].genome);
    entry.hash = hashes[i];
    entry.result = known >= 0 ? archive_[known].result : results[place[i]];
    entry.cached = !fresh[i];
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
  progress.evaluated = static_cast<int64_t>(genomes.size());
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

uint64_t Search::fingerprint() const {
  std::vector<WarmStart> starts;
  for (const PhaseRun& phase : phases_) {
    for (const Candidate& start : phase.starts) starts.push_back({start.origin, start.genome});
  }
  return search_fingerprint(space_, config_, starts);
}

}  // namespace eep
