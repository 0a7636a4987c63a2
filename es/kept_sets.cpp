#include "es/kept_sets.h"

#include <algorithm>
#include <string>

#include "es/random.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

uint64_t draw(const Child& child, Purpose purpose, uint32_t group, uint32_t row, uint32_t column, size_t n) {
  return random_below({child.seed, purpose, child.generation, child.individual, group, row, column}, n);
}

std::vector<int32_t> others(const std::vector<int32_t>& kept, int32_t experts) {
  std::vector<int32_t> absent;
  for (int32_t expert = 0; expert < experts; ++expert) {
    if (!std::binary_search(kept.begin(), kept.end(), expert)) absent.push_back(expert);
  }
  return absent;
}

void insert(std::vector<int32_t>* kept, int32_t expert) {
  kept->insert(std::lower_bound(kept->begin(), kept->end(), expert), expert);
}

int64_t layers_of(const GenomeSpace& space, size_t group) {
  return static_cast<int64_t>(space.layers[group].size());
}

}  // namespace

KeptSets kept_sets(const Genome& genome, int32_t experts) {
  KeptSets sets;
  for (const GroupGenes& group : genome.groups) {
    sets.push_back(one_hot_rows(group.w_em, group.kept, experts));
    std::sort(sets.back().begin(), sets.back().end());
  }
  return sets;
}

void swap_expert(KeptSets* sets, int32_t group, int32_t experts, const Child& child, uint32_t column) {
  std::vector<int32_t>& kept = (*sets)[static_cast<size_t>(group)];
  const std::vector<int32_t> absent = others(kept, experts);
  if (absent.empty()) return;
  const auto at = static_cast<uint32_t>(group);
  const uint64_t leaves = draw(child, Purpose::kSwap, at, 0, column, kept.size());
  const uint64_t enters = draw(child, Purpose::kSwap, at, 0, column + 1, absent.size());
  kept.erase(kept.begin() + static_cast<ptrdiff_t>(leaves));
  insert(&kept, absent[enters]);
}

KeptSets cross_sets(const KeptSets& first, const KeptSets& second, const Child& child) {
  KeptSets sets(first.size());
  for (size_t group = 0; group < first.size(); ++group) {
    std::vector<int32_t> either;
    std::set_intersection(first[group].begin(), first[group].end(), second[group].begin(),
                          second[group].end(), std::back_inserter(sets[group]));
    std::set_symmetric_difference(first[group].begin(), first[group].end(), second[group].begin(),
                                  second[group].end(), std::back_inserter(either));
    for (uint32_t place = 0; sets[group].size() < first[group].size(); ++place) {
      const uint64_t chosen =
          draw(child, Purpose::kSetCrossover, static_cast<uint32_t>(group), 0, place, either.size());
      insert(&sets[group], either[chosen]);
      either.erase(either.begin() + static_cast<ptrdiff_t>(chosen));
    }
  }
  return sets;
}

std::vector<int32_t> even_counts(const std::vector<std::vector<int32_t>>& layers, int64_t total,
                                 int32_t least, int32_t most) {
  std::vector<int32_t> counts(layers.size(), least);
  int64_t left = total;
  for (const std::vector<int32_t>& group : layers) left -= least * static_cast<int64_t>(group.size());
  if (left < 0) {
    throw Error(ExitCode::kConfig, "plan.experts.total",
                "less than the least of every layer together" +
                    expected_got(std::to_string(total - left) + " or more", total));
  }
  for (bool taken = true; taken;) {
    taken = false;
    const int32_t lowest = *std::min_element(counts.begin(), counts.end());
    for (int32_t level = lowest; level < most && !taken; ++level) {
      for (size_t group = 0; group < counts.size(); ++group) {
        const auto size = static_cast<int64_t>(layers[group].size());
        if (counts[group] != level || size > left) continue;
        ++counts[group];
        left -= size;
        taken = true;
      }
    }
  }
  return counts;
}

int64_t kept_total(const GenomeSpace& space, const KeptSets& sets) {
  int64_t total = 0;
  for (size_t group = 0; group < sets.size(); ++group)
    total += static_cast<int64_t>(sets[group].size()) * layers_of(space, group);
  return total;
}

void switch_level(const GenomeSpace& space, KeptSets* sets, const Child& child, uint32_t number, bool fill) {
  int64_t left = space.total - kept_total(space, *sets);
  const auto count = [&](size_t group) { return static_cast<int32_t>((*sets)[group].size()); };
  std::vector<std::pair<size_t, size_t>> pairs;  // from, to
  for (size_t from = 0; from < sets->size(); ++from) {
    for (size_t to = 0; to < sets->size(); ++to) {
      if (from == to || count(from) <= space.least || count(to) >= space.most) continue;
      if (layers_of(space, to) <= left + layers_of(space, from)) pairs.emplace_back(from, to);
    }
  }
  if (pairs.empty()) return;
  const auto drawn = [&](uint32_t column, size_t n) {
    return draw(child, Purpose::kSwitch, 0, number, column, n);
  };
  const auto take = [&](size_t group, uint32_t column) {
    const std::vector<int32_t> absent = others((*sets)[group], space.experts);
    insert(&(*sets)[group], absent[drawn(column, absent.size())]);
    left -= layers_of(space, group);
  };
  const auto [from, to] = pairs[drawn(0, pairs.size())];
  std::vector<int32_t>& giver = (*sets)[from];
  giver.erase(giver.begin() + static_cast<ptrdiff_t>(drawn(1, giver.size())));
  left += layers_of(space, from);
  take(to, 2);
  for (uint32_t column = 3; fill; column += 2) {
    std::vector<size_t> able;
    for (size_t group = 0; group < sets->size(); ++group) {
      if (group != from && count(group) < space.most && layers_of(space, group) <= left)
        able.push_back(group);
    }
    if (able.empty()) return;
    take(able[drawn(column, able.size())], column + 1);
  }
}

void resize_level(const GenomeSpace& space, KeptSets* sets, const Child& child, uint32_t number) {
  const int64_t left = space.total - kept_total(space, *sets);
  std::vector<std::pair<size_t, bool>> moves;  // group, does it grow
  for (size_t group = 0; group < sets->size(); ++group) {
    const auto count = static_cast<int32_t>((*sets)[group].size());
    if (count > space.least) moves.emplace_back(group, false);
    if (count < space.most && layers_of(space, group) <= left) moves.emplace_back(group, true);
  }
  if (moves.empty()) return;
  const auto [group, grows] = moves[draw(child, Purpose::kResize, 0, number, 0, moves.size())];
  std::vector<int32_t>& kept = (*sets)[group];
  if (grows) {
    const std::vector<int32_t> absent = others(kept, space.experts);
    insert(&kept, absent[draw(child, Purpose::kResize, 0, number, 1, absent.size())]);
  } else {
    kept.erase(kept.begin() +
               static_cast<ptrdiff_t>(draw(child, Purpose::kResize, 0, number, 1, kept.size())));
  }
}

void shrink_levels(const GenomeSpace& space, KeptSets* sets, int64_t count, const Child& child) {
  for (uint32_t step = 0; step < count; ++step) {
    std::vector<size_t> able;
    for (size_t group = 0; group < sets->size(); ++group) {
      if (static_cast<int32_t>((*sets)[group].size()) > space.least) able.push_back(group);
    }
    if (able.empty()) return;
    std::vector<int32_t>& kept = (*sets)[able[draw(child, Purpose::kShrink, 0, step, 0, able.size())]];
    kept.erase(kept.begin() + static_cast<ptrdiff_t>(draw(child, Purpose::kShrink, 0, step, 1, kept.size())));
  }
}

int32_t next_top_k(const GenomeSpace& space, int32_t top_k, const Child& child, uint32_t number) {
  const int32_t now = top_k > 0 ? top_k : space.top_k;
  std::vector<int32_t> next;
  if (now > space.top_k_least) next.push_back(now - 1);
  if (now < space.top_k) next.push_back(now + 1);
  if (next.empty()) return top_k;
  const int32_t chosen = next[draw(child, Purpose::kTopK, 0, number, 0, next.size())];
  return chosen == space.top_k ? 0 : chosen;
}

}  // namespace eep
