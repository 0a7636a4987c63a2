// Covariance matrix adaptation by itself: constants, blocks, and functions whose optimum is known.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "es/cma.h"
#include "es/coordinates.h"
#include "es/random.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::make_space;

namespace {

using Function = std::function<double(std::span<const double>)>;

std::vector<double> drawn(uint64_t seed, uint32_t generation, size_t count) {
  std::vector<double> z;
  for (size_t i = 0; i < count; ++i)
    z.push_back(random_normal({seed, Purpose::kSample, generation, static_cast<uint32_t>(i)}));
  return z;
}

// The function's value at the mean after so many evaluations, from (1, 1, ...) with sigma 0.5.
double minimised(const Function& f, size_t d, size_t block, int64_t evaluations, uint64_t seed) {
  const std::vector<size_t> blocks(d / block, block);
  CmaState state = cma_begin(std::vector<double>(d, 1.0), 0.5, blocks);
  const auto count = static_cast<size_t>(4.0 + 3.0 * std::log(static_cast<double>(d)));
  for (uint32_t generation = 0; generation * count < static_cast<size_t>(evaluations); ++generation) {
    const std::vector<double> z = drawn(seed, generation, count * d);
    const std::vector<double> y = cma_directions(state, z);
    std::vector<double> value, point(d);
    for (size_t sample = 0; sample < count; ++sample) {
      for (size_t i = 0; i < d; ++i) point[i] = state.mean[i] + state.sigma * y[sample * d + i];
      value.push_back(-f(point));
    }
    cma_update(&state, z, y, value);
  }
  return f(state.mean);
}

double sphere(std::span<const double> x) {
  return std::accumulate(x.begin(), x.end(), 0.0, [](double sum, double v) { return sum + v * v; });
}

double ellipsoid(std::span<const double> x) {  // condition 10^6
  double sum = 0.0;
  for (size_t i = 0; i < x.size(); ++i)
    sum += std::pow(10.0, 6.0 * static_cast<double>(i) / static_cast<double>(x.size() - 1)) * x[i] * x[i];
  return sum;
}

Function rotated(const Function& f, size_t d, uint64_t seed) {
  RandomBasis basis(seed, static_cast<int64_t>(d));
  return [f, d, rows = basis.rows(0, 0, static_cast<int64_t>(d))](std::span<const double> x) {
    std::vector<double> y(d, 0.0);
    for (size_t row = 0; row < d; ++row) {
      for (size_t i = 0; i < d; ++i) y[row] += rows[row * d + i] * x[i];
    }
    return f(y);
  };
}

}  // namespace

TEST_CASE("cma: constants of the tutorial, d 10 and 10 samples") {
  const CmaConstants c = cma_constants(10, 10, 10);
  // w = (1.70475, 1.01160, 0.60614, 0.31845, 0.09531) before normalising.
  CHECK(std::abs(c.mu_eff - 3.16730) < 1e-4);
  CHECK(std::abs(c.weights[0] - 0.45627) < 1e-4);
  CHECK(std::abs(c.sigma_rate - 5.16730 / 18.16730) < 1e-5);
  CHECK(std::abs(c.sigma_damping - 1.0 - c.sigma_rate) < 1e-12);
  CHECK(std::abs(c.path_rate - (4.0 + 0.316730) / (14.0 + 0.633460)) < 1e-5);
  CHECK(std::abs(c.one_rate - 2.0 / (11.3 * 11.3 + 3.16730)) < 1e-6);
  CHECK(std::abs(c.mu_rate - 2.0 * (3.16730 - 1.75 + 1.0 / 3.16730) / (144.0 + 3.16730)) < 1e-6);
  CHECK(std::abs(c.expected_norm - 3.08475) < 1e-4);
  double positive = 0.0;
  for (size_t rank = 0; rank < 10; ++rank) {
    CHECK((c.weights[rank] > 0) == (rank < 5));
    if (rank < 5) positive += c.weights[rank];
    if (rank > 0) CHECK(c.weights[rank] < c.weights[rank - 1]);
  }
  CHECK(std::abs(positive - 1.0) < 1e-12);
  // Blocks of one learn (d + 2) / 3 times as fast.
  CHECK(std::abs(cma_constants(10, 10, 1).one_rate / c.one_rate - 4.0) < 1e-12);
}

TEST_CASE("cma: blocks are all coefficients, layer groups, or whole rows of one") {
  const auto blocks = [](const GenomeSpace& space, int64_t most) {
    std::vector<std::vector<int32_t>> first;
    for (const int32_t kept : space.kept) {
      first.emplace_back(static_cast<size_t>(kept));
      std::iota(first.back().begin(), first.back().end(), 0);
    }
    return covariance_blocks(one_hot_genome(space, first), space.experts, most);
  };
  const GenomeSpace space = make_space(8, {4, 2});
  CHECK(blocks(space, 96) == std::vector<size_t>{96});
  CHECK(blocks(space, 95) == std::vector<size_t>{64, 32});
  CHECK(blocks(space, 40) == std::vector<size_t>{32, 32, 32});
  CHECK(blocks(space, 24) == std::vector<size_t>{16, 24, 24, 16, 16});
  CHECK(blocks(space, 1) == std::vector<size_t>(96, 1));
  for (const int64_t most : {1, 3, 7, 8, 9, 31, 63, 64, 65}) {
    size_t sum = 0;
    for (const size_t block : blocks(space, most)) {
      CHECK(block >= 1);
      CHECK(block <= static_cast<size_t>(most));
      sum += block;
    }
    CHECK(sum == 96);
  }
}

TEST_CASE("cma: the factor is a root of the covariance, block by block") {
  const std::vector<size_t> blocks{5, 3};
  CmaState state = cma_begin(std::vector<double>(8, 0.0), 1.0, blocks);
  for (uint32_t generation = 0; generation < 30; ++generation) {
    std::vector<double> value;
    for (int i = 0; i < 10; ++i)
      value.push_back(random_uniform({9, Purpose::kFlag, generation, static_cast<uint32_t>(i)}));
    const std::vector<double> z = drawn(7, generation, 80);
    cma_update(&state, z, cma_directions(state, z), value);
  }
  CHECK(state.factored == state.generation);
  for (const CmaBlock& block : state.blocks) {
    const size_t n = block.size;
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j <= i; ++j) {
        double product = 0.0;
        for (size_t k = 0; k <= j; ++k)
          product += state.factor[block.at + i * n + k] * state.factor[block.at + j * n + k];
        CHECK(std::abs(product - state.covariance[block.at + i * n + j]) < 1e-12);
      }
    }
  }
}

TEST_CASE("cma: an update is decided by ranks, and NaN is the worst") {
  const std::vector<size_t> blocks{4};
  const std::vector<double> z = drawn(3, 0, 24);
  const auto after = [&](std::vector<double> value) {
    CmaState state = cma_begin(std::vector<double>(4, 0.0), 0.3, blocks);
    cma_update(&state, z, cma_directions(state, z), value);
    return state.mean;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(after({1, 2, 3, 4, 5, 6}) == after({-60, -50, -40, -3, -2, -1}));
  CHECK(after({1, 2, 3, 4, 5, 6}) != after({6, 2, 3, 4, 5, 1}));
  CHECK(after({nan, 2, 3, 4, 5, 6}) == after({-9, 2, 3, 4, 5, 6}));
}

TEST_CASE("cma: planted optima of the sphere and of a rotated ellipsoid; sep_cma needs the axes") {
  constexpr size_t d = 12;
  int32_t sphere_found = 0, rotated_found = 0, straight_found = 0, separable_lost = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const Function turned = rotated(ellipsoid, d, seed);
    sphere_found += minimised(sphere, d, d, 2500, seed) < 1e-8;
    rotated_found += minimised(turned, d, d, 7000, seed) < 1e-8;
    straight_found += minimised(ellipsoid, d, 1, 5000, seed) < 1e-8;
    separable_lost += minimised(turned, d, 1, 7000, seed) > 1e-2;
  }
  CHECK(sphere_found >= 19);
  CHECK(rotated_found >= 19);
  CHECK(straight_found >= 19);
  CHECK(separable_lost >= 19);
}
