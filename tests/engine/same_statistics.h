// Two calibrations of one text, bit for bit.
#pragma once

#include <doctest/doctest.h>

#include "engine/expert_statistics.h"

namespace eep::test {

inline void check_same(const ExpertStatistics& made, const ExpertStatistics& expected) {
  CHECK(made.tokens == expected.tokens);
  REQUIRE(made.layers.size() == expected.layers.size());
  for (size_t layer = 0; layer < made.layers.size(); ++layer) {
    CAPTURE(layer);
    CHECK(made.layers[layer].sums == expected.layers[layer].sums);
    CHECK(made.layers[layer].matrices == expected.layers[layer].matrices);
    REQUIRE(made.layers[layer].subset_errors.size() == expected.layers[layer].subset_errors.size());
    for (size_t kept = 0; kept < made.layers[layer].subset_errors.size(); ++kept) {
      CHECK(made.layers[layer].subset_errors[kept].error == expected.layers[layer].subset_errors[kept].error);
      CHECK(made.layers[layer].subset_errors[kept].norm == expected.layers[layer].subset_errors[kept].norm);
    }
  }
}

}  // namespace eep::test
