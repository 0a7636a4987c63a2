// Addressed random numbers: addresses do not collide, the numbers are distributed as they say.
#include <doctest/doctest.h>

#include <cmath>
#include <map>
#include <set>

#include "es/random.h"
#include "kernels/common/error.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::check_rate;

TEST_CASE("every field of an address changes the number") {
  const Address base{7, Purpose::kFlag, 3, 4, 5, 6, 7};
  std::set<double> numbers = {random_uniform(base)};
  const auto add = [&](auto change) {
    Address address = base;
    change(address);
    CHECK(numbers.insert(random_uniform(address)).second);
  };
  // Lowest and highest bit of every field: fields that overlapped would meet.
  for (const uint64_t bit : {uint64_t{1}, uint64_t{1} << 63}) add([&](Address& a) { a.seed ^= bit; });
  for (const uint32_t bit : {1u, 1u << 31}) add([&](Address& a) { a.generation ^= bit; });
  for (const uint32_t bit : {1u, 1u << 19}) add([&](Address& a) { a.individual ^= bit; });
  for (const uint32_t bit : {1u, 1u << 11}) add([&](Address& a) { a.group ^= bit; });
  for (const uint32_t bit : {1u, 1u << 23}) add([&](Address& a) { a.row ^= bit; });
  for (const uint32_t bit : {1u, 1u << 15}) add([&](Address& a) { a.column ^= bit; });
  add([](Address& a) { a.purpose = Purpose::kTieOrder; });
  add([](Address& a) { a.purpose = static_cast<Purpose>(255); });
}

TEST_CASE("an address is a pure function") {
  const Address address{11450, Purpose::kNoiseEm, 17, 3, 2, 1, 5};
  CHECK(random_uniform(address) == random_uniform(address));
  CHECK(random_normal(address) == random_normal(address));
  CHECK(random_below(address, 1000003) == random_below(address, 1000003));
}

TEST_CASE("fields out of range are refused") {
  const auto refused = [](auto change) {
    Address address;
    change(address);
    CHECK_THROWS_AS(random_uniform(address), Error);
  };
  refused([](Address& a) { a.individual = 1u << 20; });
  refused([](Address& a) { a.group = 1u << 12; });
  refused([](Address& a) { a.row = 1u << 24; });
  refused([](Address& a) { a.column = 1u << 16; });
}

TEST_CASE("uniform, below and normal have their distributions") {
  constexpr uint32_t kTrials = 20000;
  std::map<uint64_t, int64_t> sevens;
  int64_t low = 0;
  double sum = 0.0;
  double squares = 0.0;
  for (uint32_t i = 0; i < kTrials; ++i) {
    const double u = random_uniform({1, Purpose::kFlag, i});
    CHECK((u >= 0.0 && u < 1.0));
    low += u < 0.3;
    ++sevens[random_below({2, Purpose::kFlag, i}, 7)];
    const double normal = random_normal({3, Purpose::kFlag, i});
    sum += normal;
    squares += normal * normal;
  }
  check_rate(low, kTrials, 0.3);
  REQUIRE(sevens.size() == 7);
  for (const auto& [value, hits] : sevens) check_rate(hits, kTrials, 1.0 / 7.0);
  // Mean of n normals has deviation 1/sqrt(n), their mean square sqrt(2/n).
  CHECK(std::abs(sum / kTrials) <= 5.0 / std::sqrt(kTrials));
  CHECK(std::abs(squares / kTrials - 1.0) <= 5.0 * std::sqrt(2.0 / kTrials));
}

TEST_CASE("below is unbiased where the range does not divide the words") {
  // n = 3 * 2^62: a remainder alone would give the lowest third twice the share of the others.
  const uint64_t n = uint64_t{3} << 62;
  int64_t lowest = 0;
  for (uint32_t i = 0; i < 20000; ++i)
    lowest += random_below({4, Purpose::kFlag, i}, n) < (uint64_t{1} << 62);
  check_rate(lowest, 20000, 1.0 / 3.0);
  CHECK(random_below({5, Purpose::kFlag}, 1) == 0);
}

TEST_CASE("every subset is equally likely") {
  std::map<std::vector<int32_t>, int64_t> subsets;
  for (uint32_t i = 0; i < 20000; ++i) ++subsets[random_subset({6, Purpose::kInitialGenome, i}, 5, 3)];
  REQUIRE(subsets.size() == 10);
  for (const auto& [subset, hits] : subsets) {
    CHECK((subset[0] < subset[1] && subset[1] < subset[2]));
    check_rate(hits, 20000, 0.1);
  }
  CHECK(random_subset({6, Purpose::kInitialGenome}, 4, 4) == std::vector<int32_t>{0, 1, 2, 3});
}
