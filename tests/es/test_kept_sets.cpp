// Kept sets and the moves between them.
#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <set>

#include "es/kept_sets.h"
#include "kernels/common/error.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::check_rate;
using eep::test::make_counts_space;
using eep::test::make_space;

TEST_CASE("kept sets and one-hot genomes are each other") {
  const GenomeSpace space = make_space(8, {4, 2});
  const KeptSets sets{{0, 3, 5, 7}, {1, 6}};
  CHECK(kept_sets(one_hot_genome(space, sets), 8) == sets);
  CHECK(kept_sets(one_hot_genome(space, {{7, 0, 5, 3}, {6, 1}}), 8) == sets);
}

TEST_CASE("a swap changes one expert of one group, every pair equally often") {
  const KeptSets sets{{0, 2}, {1, 3}};
  std::map<std::vector<int32_t>, int64_t> seen;
  for (uint32_t individual = 0; individual < 8000; ++individual) {
    KeptSets changed = sets;
    swap_expert(&changed, 1, 4, {5, 0, individual});
    CHECK(changed[0] == sets[0]);
    ++seen[changed[1]];
  }
  CHECK(seen.size() == 4);
  for (const auto& [set, count] : seen) check_rate(count, 8000, 0.25);
  KeptSets all{{0, 1, 2, 3}};
  swap_expert(&all, 0, 4, {5, 0, 0});
  CHECK(all == KeptSets{{0, 1, 2, 3}});
}

TEST_CASE("crossed sets keep what both have, and take the rest from either") {
  const KeptSets first{{0, 1, 2, 3}}, second{{2, 3, 4, 5, 6}};
  std::set<int32_t> taken;
  for (uint32_t individual = 0; individual < 200; ++individual) {
    const KeptSets child = cross_sets(first, second, {5, 0, individual});
    CHECK(child[0].size() == 4);
    CHECK(std::is_sorted(child[0].begin(), child[0].end()));
    for (const int32_t both : {2, 3}) CHECK(std::count(child[0].begin(), child[0].end(), both) == 1);
    for (const int32_t expert : child[0]) {
      CHECK(expert <= 6);
      taken.insert(expert);
    }
  }
  CHECK(taken == std::set<int32_t>{0, 1, 2, 3, 4, 5, 6});
}

TEST_CASE("even counts: as even as the total allows, and nothing left that fits") {
  const auto even = [](std::vector<size_t> sizes, int64_t total, int32_t least, int32_t most) {
    std::vector<std::vector<int32_t>> layers;
    for (const size_t size : sizes) layers.emplace_back(size);
    return even_counts(layers, total, least, most);
  };
  CHECK(even({1, 1, 1, 1}, 16, 1, 8) == std::vector<int32_t>{4, 4, 4, 4});
  CHECK(even({1, 1, 1, 1}, 18, 1, 8) == std::vector<int32_t>{5, 5, 4, 4});
  CHECK(even({1, 1}, 100, 1, 8) == std::vector<int32_t>{8, 8});
  CHECK(even({2, 2}, 9, 1, 8) == std::vector<int32_t>{2, 2});  // one layer's worth is no group's
  CHECK(even({3, 1}, 10, 1, 8) == std::vector<int32_t>{2, 4});
  CHECK_THROWS_AS(even({1, 1}, 3, 2, 8), Error);
}

TEST_CASE("level switches hold the total and the bounds, and reach every count") {
  const GenomeSpace space = make_counts_space(8, 3, 9, 1, 6);
  KeptSets sets = kept_sets(random_one_hot(space, {1, 0, 0}, 0), 8);
  std::set<std::vector<size_t>> counts;
  for (uint32_t step = 0; step < 2000; ++step) {
    const KeptSets before = sets;
    switch_level(space, &sets, {1, 0, step}, 0);
    CHECK(sets != before);
    CHECK(kept_total(space, sets) == 9);
    CHECK(!wrong_counts(space, one_hot_genome(space, sets)));
    for (const std::vector<int32_t>& set : sets) CHECK(std::is_sorted(set.begin(), set.end()));
    counts.insert({sets[0].size(), sets[1].size(), sets[2].size()});
  }
  // Of (a, b, c) with sum 9, each 1..6: C(8, 2) = 28 less the three with a 7.
  CHECK(counts.size() == 25);
  // Groups of unequal depth: the total is not exceeded, and what is left fits nowhere.
  GenomeSpace uneven = make_space(8, {3, 3, 3});
  uneven.layers = {{0, 1, 2}, {3}, {4}};
  uneven.total = 15;
  uneven.least = 1;
  uneven.most = 8;
  sets = kept_sets(random_one_hot(uneven, {1, 0, 0}, 0), 8);
  for (uint32_t step = 0; step < 500; ++step) {
    switch_level(uneven, &sets, {2, 0, step}, 0);
    CHECK(kept_total(uneven, sets) <= 15);
    CHECK(!wrong_counts(uneven, one_hot_genome(uneven, sets)));
  }
  // No pair of groups can: nothing happens.
  const GenomeSpace tight = make_counts_space(4, 2, 8, 4, 4);
  KeptSets fixed{{0, 1, 2, 3}, {0, 1, 2, 3}};
  switch_level(tight, &fixed, {1, 0, 0}, 0);
  CHECK(fixed == KeptSets{{0, 1, 2, 3}, {0, 1, 2, 3}});
}
