// Genomes: what they mean does not depend on row order; bytes and plans go there and back.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "es/bytes.h"
#include "es/genome.h"
#include "es/operators.h"
#include "es/random.h"
#include "kernels/common/error.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::make_space;

namespace {

// A merged genome: a random one-hot one with noise on every matrix.
Genome noisy(const GenomeSpace& space, uint32_t number) {
  const Child child{99, number, 0};
  const std::vector<GroupFlags> all(space.kept.size(), GroupFlags{true, true});
  return gaussian_mutation(random_one_hot(space, child, 0), space.experts, all, 0.5, 0.065, child);
}

Genome permuted(const Genome& genome, int32_t experts, uint64_t seed, bool em, bool rm) {
  Genome result = genome;
  for (size_t index = 0; index < genome.groups.size(); ++index) {
    const GroupGenes& from = genome.groups[index];
    GroupGenes& to = result.groups[index];
    std::vector<size_t> order(static_cast<size_t>(from.kept));
    std::iota(order.begin(), order.end(), size_t{0});
    for (size_t i = order.size(); i > 1; --i) {
      std::swap(
          order[i - 1],
          order[random_below(
              {seed, Purpose::kFlag, 0, 0, static_cast<uint32_t>(index), static_cast<uint32_t>(i)}, i)]);
    }
    const auto width = static_cast<size_t>(experts);
    for (size_t row = 0; row < order.size(); ++row) {
      for (size_t column = 0; column < width; ++column) {
        if (em) to.w_em[row * width + column] = from.w_em[order[row] * width + column];
        if (rm) to.w_rm[row * width + column] = from.w_rm[order[row] * width + column];
      }
    }
  }
  return result;
}

bool same_bits(const Genome& a, const Genome& b) {
  if (a.groups.size() != b.groups.size()) return false;
  for (size_t i = 0; i < a.groups.size(); ++i) {
    const auto same = [](const std::vector<float>& x, const std::vector<float>& y) {
      return x.size() == y.size() && std::memcmp(x.data(), y.data(), x.size() * sizeof(float)) == 0;
    };
    if (a.groups[i].kept != b.groups[i].kept || !same(a.groups[i].w_em, b.groups[i].w_em) ||
        !same(a.groups[i].w_rm, b.groups[i].w_rm)) {
      return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("row order never carries meaning") {
  const GenomeSpace space = make_space(8, {4, 2, 7});
  for (uint32_t i = 0; i < 50; ++i) {
    CAPTURE(i);
    const Genome genome = i % 2 == 0 ? noisy(space, i) : random_one_hot(space, {99, i, 0}, 0);
    const Genome other = permuted(genome, space.experts, i, true, true);
    CHECK(canonical_hash(other, space.experts) == canonical_hash(genome, space.experts));
    CHECK(same_bits(canonical(other, space.experts), canonical(genome, space.experts)));
    CHECK(to_plan(space, other) == to_plan(space, genome));
    // The canonical form is its own.
    CHECK(same_bits(canonical(canonical(genome, space.experts), space.experts),
                    canonical(genome, space.experts)));
  }
}

TEST_CASE("rows of one matrix alone do carry meaning") {
  const GenomeSpace space = make_space(8, {4, 4});
  int differ = 0;
  for (uint32_t i = 0; i < 50; ++i) {
    const Genome genome = noisy(space, i);
    const Genome other = permuted(genome, space.experts, i + 1, true, false);
    const bool equal = canonical_hash(other, space.experts) == canonical_hash(genome, space.experts);
    CHECK(equal == same_bits(other, genome));
    differ += !equal;
  }
  CHECK(differ >= 40);  // all but the draws of the identity order, (1/24)^2
}

TEST_CASE("minus zero is zero, another bit is another genome") {
  const GenomeSpace space = make_space(4, {2});
  Genome genome = one_hot_genome(space, {{1, 3}});
  const GenomeHash hash = canonical_hash(genome, 4);
  genome.groups[0].w_rm[0] = -0.0f;
  CHECK(canonical_hash(genome, 4) == hash);
  CHECK(to_plan(space, genome) == to_plan(space, one_hot_genome(space, {{3, 1}})));
  CHECK_FALSE(std::signbit(to_plan(space, genome).groups[0].router_mapping[0]));
  genome.groups[0].w_rm[0] = std::numeric_limits<float>::denorm_min();
  CHECK_FALSE(canonical_hash(genome, 4) == hash);
}

TEST_CASE("canonical one-hot rows ascend") {
  const GenomeSpace space = make_space(8, {4});
  const Genome sorted = canonical(one_hot_genome(space, {{6, 1, 7, 0}}), 8);
  CHECK(eep::test::kept_experts(sorted.groups[0], 8) == std::vector<int32_t>{0, 1, 6, 7});
}

TEST_CASE("one-hot genomes are told from others") {
  const GenomeSpace space = make_space(4, {2});
  CHECK(is_one_hot(one_hot_genome(space, {{2, 0}}), 4));
  CHECK_FALSE(is_one_hot(one_hot_genome(space, {{2, 2}}), 4));
  Genome genome = one_hot_genome(space, {{2, 0}});
  genome.groups[0].w_rm = one_hot_genome(space, {{0, 2}}).groups[0].w_rm;  // decoupled
  CHECK_FALSE(is_one_hot(genome, 4));
  genome = one_hot_genome(space, {{2, 0}});
  genome.groups[0].w_em[1] = genome.groups[0].w_rm[1] = 0.1f;
  CHECK_FALSE(is_one_hot(genome, 4));
}

TEST_CASE("the number of one-hot genomes") {
  CHECK(one_hot_count(make_space(8, {4})) == 70);
  CHECK(one_hot_count(make_space(8, {4, 4, 4, 4})) == 24010000);
  CHECK(one_hot_count(make_space(8, {8, 8})) == 1);
  CHECK(one_hot_count(make_space(60, {30, 30})) == std::numeric_limits<int64_t>::max());
}

TEST_CASE("plans go there and back") {
  GenomeSpace space = make_space(8, {4, 3});
  space.layers = {{0, 2}, {3}};
  space.top_k = 3;
  space.router_space = RouterSpace::kProbabilities;
  for (uint32_t i = 0; i < 10; ++i) {
    const Genome genome = noisy(space, i);
    const ExpertPlan plan = to_plan(space, genome);
    CHECK(plan.top_k == 3);
    CHECK(plan.router_space == RouterSpace::kProbabilities);
    CHECK(plan.groups[0].layers == std::vector<int32_t>{0, 2});
    CHECK(same_bits(from_plan(space, plan, "plan"), canonical(genome, 8)));

    // The same plan with a group of its own for every layer.
    ExpertPlan finer = plan;
    finer.groups[0].layers = {2};
    finer.groups.push_back(plan.groups[0]);
    finer.groups.back().layers = {0};
    CHECK(same_bits(from_plan(space, finer, "plan"), canonical(genome, 8)));
    finer.groups.back().router_mapping[0] += 1.0f;
    CHECK_THROWS_AS(from_plan(space, finer, "plan"), Error);
  }
}

TEST_CASE("plans that do not fit are refused") {
  const GenomeSpace space = make_space(8, {4});
  const ExpertPlan plan = to_plan(space, noisy(space, 1));
  const auto refused = [&](auto change) {
    ExpertPlan other = plan;
    change(other.groups[0]);
    CHECK_THROWS_AS(from_plan(space, other, "plan"), Error);
  };
  refused([](PlanGroup& g) { g.layers = {1}; });
  refused([](PlanGroup& g) { g.kept = 3; });
  refused([](PlanGroup& g) { g.experts = 7; });
  refused([](PlanGroup& g) { g.router_mapping.pop_back(); });
  refused([](PlanGroup& g) { g.expert_merging[3] = std::numeric_limits<float>::quiet_NaN(); });
}

TEST_CASE("spaces are checked") {
  const auto refused = [](auto change) {
    GenomeSpace space = make_space(8, {4, 4});
    CHECK_NOTHROW(check_space(space));
    change(space);
    CHECK_THROWS_AS(check_space(space), Error);
  };
  refused([](GenomeSpace& s) { s.experts = 0; });
  refused([](GenomeSpace& s) { s.experts = 1 << 30; });
  refused([](GenomeSpace& s) { s.kept = {4}; });
  refused([](GenomeSpace& s) { s.kept = {4, 9}; });
  refused([](GenomeSpace& s) { s.kept = {4, 0}; });
  refused([](GenomeSpace& s) { s.layers[1].clear(); });
  refused([](GenomeSpace& s) { s.layers[1] = {0}; });
  refused([](GenomeSpace& s) { s.top_k = 0; });
}

TEST_CASE("bytes keep row order and every bit") {
  const GenomeSpace space = make_space(13, {4, 13, 1});
  for (uint32_t i = 0; i < 20; ++i) {
    Genome genome = i % 2 == 0 ? noisy(space, i) : random_one_hot(space, {3, i, 0}, 0);
    if (i == 4) genome.groups[0].w_rm[2] = -0.0f;
    genome = permuted(genome, space.experts, i, true, true);
    std::string bytes;
    write_genome(space, genome, bytes);
    bytes += "rest";
    std::string_view view = bytes;
    CHECK(same_bits(read_genome(space, view, "genome"), genome));
    CHECK(view == "rest");
  }
  std::string bytes;
  write_genome(make_space(64, {8}), one_hot_genome(make_space(64, {8}), {{0, 1, 2, 3, 4, 5, 6, 63}}), bytes);
  CHECK(bytes.size() == 1 + 8 * 3);  // one-hot rows are short
}

TEST_CASE("damaged bytes are an error") {
  const GenomeSpace space = make_space(13, {4, 2});
  std::string bytes;
  write_genome(space, noisy(space, 5), bytes);
  for (size_t length = 0; length < bytes.size(); ++length) {
    std::string_view view(bytes.data(), length);
    CHECK_THROWS_AS(read_genome(space, view, "genome"), Error);
  }
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (const int change : {0x01, 0x80, 0xff}) {
      std::string other = bytes;
      other[at] = static_cast<char>(other[at] ^ change);
      std::string_view view = other;
      try {
        const Genome genome = read_genome(space, view, "genome");
        for (const GroupGenes& group : genome.groups) {
          CHECK(std::all_of(group.w_em.begin(), group.w_em.end(), [](float x) { return std::isfinite(x); }));
        }
      } catch (const Error& error) {
        CHECK(error.code() == ExitCode::kData);
      }
    }
  }
  std::string wrong;
  put(uint8_t{1}, wrong);
  put(uint8_t{0}, wrong);
  put(uint16_t{13}, wrong);  // of experts 0..12
  std::string_view view = wrong;
  CHECK_THROWS_AS(read_genome(space, view, "genome"), Error);
}
