// The search loop.
#include "es/search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <unordered_map>
#include <utility>

#include "es/algorithms.h"
#include "es/search_state.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

constexpr int64_t kMostIndividuals = int64_t{1} << 20;  // of a generation have addresses

void check_start(const GenomeSpace& space, const WarmStart& start) {
  const auto fail = [&](const std::string& what) {
    throw Error(ExitCode::kConfig, "warm start " + start.name, what);
  };
  if (start.name.empty() || start.name.size() > 255) fail("impossible name (expected 1..255 characters)");
  if (start.genome.groups.size() != space.kept.size()) {
    fail("another number of groups" + expected_got(space.kept.size(), start.genome.groups.size()));
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
    refuse("search.objectives",
           "parameters do not vary" + expected_got("plan.experts with a total", "a number"));
  if (wanted.active && !space.top_k_varies())
    refuse("search.objectives",
           "active experts do not vary" + expected_got("plan.top_k with min and max", "a number"));
  const AlgorithmRow& row = find_algorithm(config.prune, Phase::kPrune);
  std::vector<std::string_view> able;
  for (const AlgorithmRow& other : algorithms()) {
    if (wanted.several() ? other.objectives : other.counts) able.push_back(other.name);
  }
  const std::string instead =
      expected_got(fmt::format("{}", fmt::join(able, " or ")), config.prune.algorithm);
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
    dropped.assign(hashes.size(), false);
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
  std::vector<bool> dropped;        // [candidates] likewise
  std::vector<int64_t> place;       // [candidates] in genomes; -1: the archive answers
  std::vector<bool> fresh;          // [candidates] the first one with its genome
  std::vector<Genome> genomes;      // canonical
  std::vector<GenomeHash> genome_hashes;
  std::unordered_map<uint64_t, std::vector<size_t>> places;  // low half of a hash -> indices into genomes
};

// What candidates are ranked by first, of each item.
std::vector<double> compared_values(const Evaluation& result, FitnessKind kind) {
  std::vector<double> values;
  for (const ItemValue& item : result.items)
    values.push_back(kind == FitnessKind::kLoglik ? item.loglik : item.score);
  return values;
}

// The means of those items whose places are given, ascending, as an evaluation of them all would sum them.
Evaluation mean_of(std::span<const ItemValue> values, std::span<const int32_t> places, FitnessKind kind) {
  Evaluation result;
  result.n = static_cast<int32_t>(places.size());
  double score = 0.0;
  for (const int32_t place : places) {
    const ItemValue& value = values[static_cast<size_t>(place)];
    score += value.score;
    result.tiebreak += value.loglik;
    result.items.push_back(value);
  }
  result.tiebreak /= result.n;
  result.fitness = kind == FitnessKind::kLoglik ? result.tiebreak : score / result.n;
  return result;
}

}  // namespace

Search::Search(GenomeSpace space, SearchConfig config, std::vector<WarmStart> warm_starts)
    : space_(std::move(space)),
      config_(resolved(config)),
      archive_(config_.fitness),
      leaders_(config_.racing.keep) {
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
                "nothing to search: all experts stay" + expected_got("1 or more", 0));
  }
  int64_t begin = 0;
  for (PhaseRun& phase : phases_) {
    if (phase.algorithm->needs().all_decisions) archive_.keep_decisions();
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
  if (!config_.racing.on) return;
  for (int64_t i = begin; i < end; ++i) leaders_.add(archive_, i);
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

int64_t Search::bar(const Algorithm& algorithm) const {
  const std::optional<int64_t> parent = algorithm.last_parent(archive_);
  if (!parent || !leaders_.full()) return -1;
  const int64_t kept = leaders_.best().back();
  return archive_.compare(archive_[kept].result, archive_[*parent].result) < 0 ? kept : *parent;
}

std::vector<Evaluation> Search::race(std::span<const Genome> genomes, int64_t bar,
                                     const EvaluateItems& evaluate, std::vector<bool>* dropped) {
  const auto asked = [&](std::span<const Genome> of, std::span<const int32_t> items) {
    std::vector<Evaluation> results = evaluate({of, items, false, true, true});
    const size_t wanted = items.empty() ? static_cast<size_t>(archive_[bar].result.n) : items.size();
    const auto whole = [&](const Evaluation& result) { return result.items.size() == wanted; };
    if (results.size() != of.size() || !std::all_of(results.begin(), results.end(), whole))
      throw Error(ExitCode::kRuntime, "search", "wrong number of results or items");
    return results;
  };
  if (values_.count(bar) == 0) {
    const Genome genome = canonical(archive_[bar].genome, space_.experts);
    values_[bar] = compared_values(asked(std::span(&genome, 1), {})[0], config_.fitness);
  }
  const std::vector<double>& held_against = values_[bar];
  const int64_t all = archive_[bar].result.n;
  const std::vector<int32_t> order = race_order(config_.seed, all);
  std::vector<std::vector<ItemValue>> values(genomes.size(), std::vector<ItemValue>(order.size()));
  std::vector<Evaluation> results(genomes.size());
  std::vector<size_t> racing(genomes.size());
  std::iota(racing.begin(), racing.end(), size_t{0});
  std::vector<int32_t> seen;  // ascending
  for (const int64_t size : race_sizes(config_.racing, all)) {
    std::vector<int32_t> fresh(order.begin() + static_cast<ptrdiff_t>(seen.size()), order.begin() + size);
    std::sort(fresh.begin(), fresh.end());
    std::vector<Genome> left;
    for (const size_t i : racing) left.push_back(genomes[i]);
    const std::vector<Evaluation> made = asked(left, fresh);
    seen.insert(seen.end(), fresh.begin(), fresh.end());
    std::sort(seen.begin(), seen.end());
    std::vector<size_t> next;
    for (size_t at = 0; at < racing.size(); ++at) {
      const size_t i = racing[at];
      for (size_t item = 0; item < fresh.size(); ++item)
        values[i][static_cast<size_t>(fresh[item])] = made[at].items[item];
      results[i] = mean_of(values[i], seen, config_.fitness);
      std::vector<double> differences = compared_values(results[i], config_.fitness);
      for (size_t item = 0; item < seen.size(); ++item)
        differences[item] -= held_against[static_cast<size_t>(seen[item])];
      (*dropped)[i] = size < all && surely_below(differences, all, config_.racing.errors);
      if (!(*dropped)[i]) next.push_back(i);
    }
    racing = std::move(next);
    if (racing.empty()) break;
  }
  return results;
}

void Search::forget_values(int64_t bar) {
  std::erase_if(values_, [&](const auto& known) {
    return archive_.compare(archive_[known.first].result, archive_[bar].result) < 0;
  });
}

SearchProgress Search::step(const Evaluate& evaluate) {
  return step(EvaluateItems([&](const EvaluationRequest& request) {
    if (!request.items.empty() || request.decisions || request.values) {
      throw Error(ExitCode::kConfig, "search", "the evaluator has no single items and no decisions");
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
  const bool races = config_.racing.on && shard < 0 && !needs.decisions;
  const int64_t held_against = races ? bar(*phase.algorithm) : -1;
  const int64_t most = needs.own_generations ? kMostIndividuals : config_.population;
  std::vector<Candidate> candidates =
      phase.algorithm->ask({space_, archive_, phase.phase, phase_begin, phase.starts, config_.seed,
                            generation, static_cast<int32_t>(std::min(most, left))});

  // Equal genomes are answered from the archive, before what it has of this generation makes it forget the
  // decisions of the last one.
  Generation asked(candidates, space_.experts);
  for (size_t i = 0; i < candidates.size(); ++i) {
    const int64_t known = archive_.find(asked.hashes[i], shard);
    const bool lacks = known >= 0 && ((needs.decisions && archive_[known].result.decisions.empty()) ||
                                      (archive_[known].dropped && held_against < 0));
    if (known >= 0 && !lacks) {
      asked.results[i] = archive_[known].result;
      asked.dropped[i] = archive_[known].dropped;
    } else {
      asked.evaluate(i, candidates[i].genome);
    }
  }
  std::vector<Evaluation> results;
  std::vector<int32_t> items;
  if (shard >= 0) items = shard_items(config_.shards, config_.seed, shard, shard_size);
  std::vector<bool> dropped(asked.genomes.size(), false);
  if (!asked.genomes.empty()) {
    results = held_against >= 0 ? race(asked.genomes, held_against, evaluate, &dropped)
                                : evaluate({asked.genomes, items, needs.decisions, false, races});
  }
  if (results.size() != asked.genomes.size()) {
    throw Error(ExitCode::kRuntime, "search",
                "wrong number of results" + expected_got(asked.genomes.size(), results.size()));
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    const auto place = static_cast<size_t>(std::max<int64_t>(asked.place[i], 0));
    ArchiveEntry entry;
    entry.shard = shard;
    entry.phase = phase.phase;
    entry.generation = generation;
    entry.origin = std::move(candidates[i].origin);
    entry.genome = std::move(candidates[i].genome);
    entry.hash = asked.hashes[i];
    entry.result = asked.place[i] < 0 ? std::move(asked.results[i]) : results[place];
    entry.dropped = asked.place[i] < 0 ? asked.dropped[i] : dropped[place];
    entry.cached = !asked.fresh[i];
    if (races && asked.fresh[i] && !entry.dropped)
      values_[archive_.size()] = compared_values(entry.result, config_.fitness);
    archive_.append(std::move(entry));
  }
  told(begin, archive_.size());
  if (held_against >= 0) forget_values(held_against);

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
