// The search for values that are no numbers, which is shared out over threads; so ThreadSanitizer runs it.
#include <doctest/doctest.h>

#include <vector>

#include "loaders/models/finite.h"

using namespace eep;

TEST_CASE("finite: of values that are no numbers the first is found, whichever thread comes to it") {
  constexpr size_t kCount = (size_t{33} << 18) + 5;  // blocks for two threads, the last one short
  std::vector<uint16_t> values(kCount, 0x3f80);      // 1 in bf16
  CHECK(first_not_finite(values.data(), kCount, DType::kBF16) == kCount);
  for (const size_t place : {kCount - 1, size_t{20} << 18, (size_t{20} << 18) - 1, size_t{7}}) {
    values[place] = place % 2 == 0 ? 0x7fc0 : 0xff80;  // NaN, -infinity
    CAPTURE(place);
    CHECK(first_not_finite(values.data(), kCount, DType::kBF16) == place);
  }
}
