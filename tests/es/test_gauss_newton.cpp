// The regression behind rsgn's steps, the directions, the shards.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "es/coordinates.h"
#include "es/gauss_newton.h"
#include "es/random.h"
#include "es/shards.h"
#include "kernels/common/error.h"
#include "tests/es/support.h"

using namespace eep;

namespace {

double normal(uint32_t individual, uint32_t row, uint32_t column) {
  return random_normal({7, Purpose::kSample, 0, individual, 0, row, column});
}

// Random linear rivals: `decisions` of `rivals` each in `directions` directions.
Rivals random_rivals(int32_t decisions, int32_t rivals, int32_t directions) {
  Rivals made;
  made.directions = directions;
  for (int32_t decision = 0; decision < decisions; ++decision) {
    for (int32_t rival = 0; rival < rivals; ++rival) {
      const auto row = static_cast<uint32_t>(decision * rivals + rival);
      made.logit.push_back(normal(0, row, 0));
      for (int32_t i = 0; i < directions; ++i) made.slope.push_back(normal(1, row, static_cast<uint32_t>(i)));
    }
    made.end.push_back((decision + 1) * rivals);
    made.weight.push_back(1.0 / decisions);
  }
  return made;
}

Decisions tokens(std::vector<float> values) { return {values, {static_cast<int32_t>(values.size())}, {-1}}; }

}  // namespace

TEST_CASE("a positive definite system is solved, another one refused") {
  std::vector<double> a{4, 0, 0, 2, 5, 0, 1, 3, 6};  // lower triangle
  std::vector<double> b{4 * 1 + 2 * -2 + 1 * 3, 2 * 1 + 5 * -2 + 3 * 3, 1 * 1 + 3 * -2 + 6 * 3};
  CHECK(solve_positive(&a, &b));
  CHECK(std::abs(b[0] - 1) < 1e-14);
  CHECK(std::abs(b[1] + 2) < 1e-14);
  CHECK(std::abs(b[2] - 3) < 1e-14);
  std::vector<double> indefinite{1, 0, 2, 1};
  std::vector<double> any{1, 1};
  CHECK_FALSE(solve_positive(&indefinite, &any));
}

TEST_CASE("a ridge step is the maximum of its concave objective") {
  for (const int32_t rivals : {1, 3}) {
    for (const double ridge : {0.01, 0.2, 5.0}) {
      const Rivals problem = random_rivals(60, rivals, 5);
      const std::vector<double> step = ridge_step(problem, ridge, 50);
      const double value = expected_loglik(problem, step, ridge);
      // At the maximum of a function with curvature >= ridge every move of length h loses >= ridge h^2 / 2.
      constexpr double kMove = 1e-3;
      for (size_t i = 0; i < step.size(); ++i) {
        for (const double sign : {1.0, -1.0}) {
          std::vector<double> moved = step;
          moved[i] += sign * kMove;
          CHECK(expected_loglik(problem, moved, ridge) <= value - 0.49 * ridge * kMove * kMove);
        }
      }
      // Six steps are as good.
      const std::vector<double> six = ridge_step(problem, ridge);
      for (size_t i = 0; i < step.size(); ++i) CHECK(std::abs(six[i] - step[i]) < 1e-4);
    }
  }
}

TEST_CASE("decisions become rivals: tokens against everything else, choices against the right one") {
  const Decisions center{{-0.5f, -1.0f, -2.0f, -0.25f, -3.0f}, {2, 5}, {-1, 1}};
  const Decisions probe{{-0.4f, -1.1f, -2.0f, -0.05f, -3.0f}, {2, 5}, {-1, 1}};
  const Decisions* probes[] = {&probe};
  const Rivals rivals = make_rivals(center, probes, 0.1);
  CHECK(rivals.end == std::vector<int32_t>{1, 2, 4});
  CHECK(rivals.weight == std::vector<double>{0.25, 0.25, 0.5});
  const auto odds = [](double l) { return std::log(1 - std::exp(l)) - l; };
  const double wanted[] = {odds(-0.5), odds(-1.0), -2.0 + 0.25, -3.0 + 0.25};
  const double moved[] = {odds(-0.4f), odds(-1.1f), -2.0 + 0.05f, -3.0 + 0.05f};
  for (size_t i = 0; i < 4; ++i) {
    CHECK(std::abs(rivals.logit[i] - wanted[i]) < 1e-12);
    CHECK(std::abs(rivals.slope[i] - (moved[i] - wanted[i]) / 0.1) < 1e-10);
  }
  const std::vector<double> means = item_means(center);
  CHECK(std::abs(means[0] + 0.75) < 1e-12);
  CHECK(std::abs(means[1] - (-0.25 - std::log(std::exp(-2.0) + std::exp(-0.25) + std::exp(-3.0)))) < 1e-12);
  // The objective at 0 is the mean over items.
  CHECK(std::abs(expected_loglik(rivals, std::vector<double>{0.0}, 1.0) - (means[0] + means[1]) / 2) < 1e-12);
  const Decisions other = tokens({-1.0f});
  const Decisions* wrong[] = {&other};
  CHECK_THROWS_AS(make_rivals(center, wrong, 0.1), Error);
}

TEST_CASE("certain, impossible and broken decisions leave a finite step") {
  const Decisions center = tokens({0.0f, -1e4f, -1.0f, std::nanf("")});
  const Decisions probe = tokens({-1e-7f, -9e3f, -0.9f, -1.0f});
  const Decisions* probes[] = {&probe};
  const std::vector<double> step = ridge_step(make_rivals(center, probes, 0.14), 0.2);
  CHECK(std::isfinite(step[0]));
}

TEST_CASE("a random basis is orthonormal, a function of its address, and isotropic") {
  constexpr int64_t d = 60;
  RandomBasis basis(3, d);
  const std::vector<double> rows = basis.rows(0, 0, d);
  for (size_t a = 0; a < d; ++a) {
    for (size_t b = 0; b <= a; ++b) {
      double sum = 0;
      for (size_t i = 0; i < d; ++i) sum += rows[a * d + i] * rows[b * d + i];
      CHECK(std::abs(sum - (a == b ? 1.0 : 0.0)) < 1e-12);
    }
  }
  RandomBasis again(3, d);
  const std::vector<double> later = again.rows(0, 20, 7);
  CHECK(std::equal(later.begin(), later.end(), rows.begin() + 20 * d));
  CHECK(again.rows(1, 0, 1) != basis.rows(0, 0, 1));
  CHECK(again.rows(0, 0, 1) == basis.rows(0, 0, 1));
  CHECK(RandomBasis(4, d).rows(0, 0, 1) != basis.rows(0, 0, 1));
  CHECK(RandomBasis(1, 4096).rows() == 512);
}

TEST_CASE("coordinates are W_EM then W_RM of every group, and go back") {
  const GenomeSpace space = test::make_space(3, {2, 1});
  CHECK(dimensions(space) == 18);
  Genome genome = one_hot_genome(space, {{0, 2}, {1}});
  genome.groups[0].w_rm[5] = 0.25f;
  const std::vector<double> at = to_coordinates(genome);
  CHECK(at == std::vector<double>{1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0.25, 0, 1, 0, 0, 1, 0});
  CHECK(from_coordinates(genome, at) == genome);
}

TEST_CASE("shards: every epoch is a permutation, and none holds an item twice") {
  const ShardConfig config{100, 16, 0};
  std::vector<int32_t> epoch;
  for (int64_t begin = 0; begin < 96; begin += 16) {
    const std::vector<int32_t> items = shard_items(config, 5, begin, 16);
    CHECK(items == shard_items(config, 5, begin, 16));
    epoch.insert(epoch.end(), items.begin(), items.end());
  }
  CHECK(shard_begin(config, 96, 4) == 96);
  CHECK(shard_begin(config, 96, 5) == 100);  // what is left of the epoch does not do
  CHECK(shard_begin(config, 200, 100) == 200);
  const std::vector<int32_t> last = shard_items(config, 5, 96, 4);
  epoch.insert(epoch.end(), last.begin(), last.end());
  const std::vector<int32_t> whole = shard_items(config, 5, 0, 100);
  CHECK(epoch == whole);
  std::sort(epoch.begin(), epoch.end());
  std::vector<int32_t> all(100);
  std::iota(all.begin(), all.end(), 0);
  CHECK(epoch == all);
  CHECK(shard_items(config, 5, 100, 100) != whole);
  CHECK(shard_items(config, 6, 0, 100) != whole);
  CHECK_THROWS_AS(check_shards({100, 101, 0}), Error);
  CHECK_THROWS_AS(check_shards({0, 1, 0}), Error);
  CHECK_NOTHROW(check_shards({}));
}
