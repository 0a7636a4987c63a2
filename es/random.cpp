// Addressed random numbers over Philox4x32-10.
#include "es/random.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/philox.h"

namespace eep {
namespace {

void check_field(const char* field, uint32_t value, int bits) {
  if ((value >> bits) == 0) return;
  throw Error(ExitCode::kConfig, "search",
              std::string("address of a random number out of range: ") + field +
                  expected_got("below 2^" + std::to_string(bits), value));
}

std::array<uint32_t, 4> block(const Address& address, uint32_t attempt) {
  check_field("individual", address.individual, 20);
  check_field("group", address.group, 12);
  check_field("row", address.row, 24);
  check_field("column", address.column, 16);
  check_field("attempt", attempt, 16);
  const std::array<uint32_t, 4> counter = {attempt | (address.column << 16),
                                           address.row | (static_cast<uint32_t>(address.purpose) << 24),
                                           address.individual | (address.group << 20), address.generation};
  return philox(counter, address.seed);
}

}  // namespace

double random_uniform(const Address& address) {
  const auto words = block(address, 0);
  return philox_uniform_double(words[0], words[1]);
}

uint64_t random_below(const Address& address, uint64_t n) {
  // The 2^64 mod n lowest values are refused, so every residue has equally many values left.
  const uint64_t refused = (0 - n) % n;
  for (uint32_t attempt = 0;; ++attempt) {
    const auto words = block(address, attempt);
    for (const size_t i : {size_t{0}, size_t{2}}) {
      const uint64_t value = (static_cast<uint64_t>(words[i]) << 32) | words[i + 1];
      if (value >= refused) return value % n;
    }
  }
}

double random_normal(const Address& address) {
  const auto words = block(address, 0);
  return philox_normal(words[0], words[1]);
}

std::vector<int32_t> random_subset(const Address& address, int32_t n, int32_t count) {
  std::vector<int32_t> items(static_cast<size_t>(n));
  std::iota(items.begin(), items.end(), 0);
  for (int32_t i = 0; i < count; ++i) {
    Address step = address;
    step.column = static_cast<uint32_t>(i);
    const uint64_t j = static_cast<uint64_t>(i) + random_below(step, static_cast<uint64_t>(n - i));
    std::swap(items[static_cast<size_t>(i)], items[static_cast<size_t>(j)]);
  }
  items.resize(static_cast<size_t>(count));
  std::sort(items.begin(), items.end());
  return items;
}

}  // namespace eep
