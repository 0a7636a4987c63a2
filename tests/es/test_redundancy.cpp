// What calibration foretells of pruning, and statistics that are no numbers.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "es/blend.h"
#include "es/no_signal.h"
#include "es/redundancy.h"
#include "es/statistics_io.h"
#include "kernels/common/error.h"

using namespace eep;

namespace {

LayerStatistics layer_of(int32_t index, const std::vector<double>& counts, std::vector<SubsetErrors> errors) {
  LayerStatistics layer;
  layer.layer = index;
  for (size_t sum = 0; sum < kRoutedSums; ++sum) layer.sums[sum].assign(counts.size(), 1.0);
  layer[ExpertSum::kCount] = counts;
  layer.subset_errors = std::move(errors);
  return layer;
}

// Two layers of four experts; |Z| is 8 and 4. One expert a layer was tried in the second layer alone.
ExpertStatistics two_layers() {
  ExpertStatistics statistics;
  statistics.experts = 4;
  statistics.top_k = 1;
  statistics.tokens = 8;
  statistics.layers.push_back(
      layer_of(2, {2, 2, 2, 2},
               {{3, true, {{0, 1, 2}, {1, 2, 3}}, {2, 1}, 8}, {2, true, {{0, 1}, {2, 3}}, {4, 6}, 8}}));
  statistics.layers.push_back(layer_of(5, {8, 0, 0, 0},
                                       {{3, false, {{0, 1, 2}, {1, 2, 3}}, {1, 3}, 4},
                                        {2, true, {{0, 1}, {2, 3}}, {3, 4}, 4},
                                        {1, true, {{0}}, {4}, 4}}));
  return statistics;
}

}  // namespace

TEST_CASE("redundancy: the best subset of every layer against the size of its outputs") {
  const std::vector<RedundancyPoint> curve = redundancy_curve(two_layers());
  REQUIRE(curve.size() == 2);  // 1 was not measured in every layer
  CHECK(curve[0].kept == 2);
  CHECK(curve[0].mean == (4.0 / 8 + 3.0 / 4) / 2);
  CHECK(curve[0].worst == 0.75);
  CHECK(curve[0].worst_layer == 5);
  CHECK(curve[0].exhaustive);
  CHECK(curve[1].kept == 3);
  CHECK(curve[1].mean == (1.0 / 8 + 1.0 / 4) / 2);
  CHECK(!curve[1].exhaustive);
  // Four experts that are called equally often, and one: exp of the entropy is 4 and 1, exact up to rounding.
  CHECK(effective_experts(two_layers()) == doctest::Approx(2.5).epsilon(1e-12));
  CHECK(redundancy_line(two_layers(), 2) ==
        "redundancy: with the best 2 of 4 experts a layer the outputs of the expert blocks move by 62.5 % "
        "(worst "
        "layer 5: 75.0 %); the calls are spread as over 2.5 experts");
  CHECK(redundancy_line(two_layers(), 1).empty());
  CHECK(redundancy_table(two_layers())
            .find("    3 of 4: 18.8 % (worst layer 5: 25.0 %), of sampled subsets\n") != std::string::npos);
}

TEST_CASE("redundancy: the size of outputs goes through score files and blends, and may be missing") {
  StatisticsFile file;
  file.statistics = two_layers();
  const StatisticsFile back = parse_statistics(statistics_json(file), "scores");
  CHECK(back.statistics.layers[1].subset_errors[0].norm == 4);
  Domain first, second;
  first.file = second.file = back;
  second.weight = 3;
  CHECK(blended(std::vector<Domain>{first, second}).layers[0].subset_errors[0].norm == 8 + 3 * 8);
  CHECK(redundancy_curve(blended(std::vector<Domain>{first, second}))[0].mean ==
        doctest::Approx(0.625).epsilon(1e-15));  // the same text twice
  for (LayerStatistics& layer : file.statistics.layers) layer.subset_errors[0].norm = 0;  // an older file
  CHECK(statistics_json(file).find("\"error\":[2.0,1.0]}") != std::string::npos);
  CHECK(redundancy_curve(file.statistics).size() == 1);
  CHECK(redundancy_table(ExpertStatistics{}).empty());
}

TEST_CASE("statistics that are no numbers are refused with layer, expert and name") {
  ExpertStatistics statistics = two_layers();
  require_finite_statistics(statistics);
  statistics.layers[1][ExpertSum::kSquaredNorm][3] = std::numeric_limits<double>::infinity();
  try {
    require_finite_statistics(statistics);
    FAIL("an infinite sum was taken");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kData);
    CHECK(std::string(error.what()) ==
          "layer 5, expert 3: its statistic squared_norm is not a finite number (got inf)");
  }
}
