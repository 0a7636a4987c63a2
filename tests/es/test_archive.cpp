// The archive: order, answers, best; its lines to the letter.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "es/archive.h"
#include "es/operators.h"
#include "tests/es/support.h"

using namespace eep;
using eep::test::make_space;

namespace {

const double kNan = std::numeric_limits<double>::quiet_NaN();

Archive archive_of(const std::vector<Evaluation>& results, FitnessKind kind) {
  const GenomeSpace space = make_space(8, {4, 4, 4});
  Archive archive(kind);
  for (size_t i = 0; i < results.size(); ++i) {
    ArchiveEntry entry;
    entry.genome = random_one_hot(space, {1, static_cast<uint32_t>(i), 0}, 0);
    entry.hash = canonical_hash(entry.genome, 8);
    entry.result = results[i];
    archive.append(std::move(entry));
  }
  return archive;
}

}  // namespace

TEST_CASE("best: fitness, then tie-break, then the earliest; NaN last") {
  const std::vector<Evaluation> results = {{kNan, 9.0, 1}, {0.5, -2.0, 1}, {0.5, -1.0, 1},
                                           {0.5, -1.0, 1}, {0.5, kNan, 1}, {0.25, 5.0, 1}};
  const Archive ties = archive_of(results, FitnessKind::kMetricThenLoglik);
  CHECK(ties.best() == 2);
  CHECK(ties.best(3, 6) == 3);
  CHECK(ties.best(0, 1) == 0);
  CHECK(ties.best(2, 2) == -1);
  CHECK(ties.best_unique(0, 6, 10) == std::vector<int64_t>{2, 3, 1, 4, 5, 0});
  CHECK(ties.best_unique(0, 6, 2) == std::vector<int64_t>{2, 3});
  const Archive metric = archive_of(results, FitnessKind::kMetric);  // the tie-break is not read
  CHECK(metric.best() == 1);
  CHECK(metric.compare({0.5, kNan, 1}, {0.5, 3.0, 1}) == 0);
}

TEST_CASE("values that are not finite count as NaN") {
  const double infinity = std::numeric_limits<double>::infinity();
  const Archive archive =
      archive_of({{infinity, 0.0, 1}, {-infinity, 0.0, 1}, {-1e300, 0.0, 1}}, FitnessKind::kLoglik);
  CHECK(archive.best() == 2);
  CHECK(std::isnan(archive[0].result.fitness));
  CHECK(std::isnan(archive[1].result.fitness));
  CHECK(archive.compare(archive[0].result, archive[1].result) == 0);
}

TEST_CASE("equal genomes are found at their earliest evaluation") {
  const GenomeSpace space = make_space(8, {4});
  Archive archive(FitnessKind::kMetric);
  for (const auto& rows : {std::vector<int32_t>{0, 1, 2, 3}, std::vector<int32_t>{4, 5, 6, 7},
                           std::vector<int32_t>{3, 2, 1, 0}}) {
    ArchiveEntry entry;
    entry.genome = one_hot_genome(space, {rows});
    entry.hash = canonical_hash(entry.genome, 8);
    archive.append(std::move(entry));
  }
  CHECK(archive.size() == 3);
  CHECK(archive.unique() == 2);
  CHECK(archive.find(archive[2].hash) == 0);
  CHECK(archive.find(archive[1].hash) == 1);
  CHECK(archive.find(GenomeHash{1, 2}) == -1);
  CHECK(archive.best_unique(0, 3, 9) == std::vector<int64_t>{0, 1});
  CHECK(archive[2].evaluation == 2);
}

TEST_CASE("lines") {
  ArchiveEntry entry;
  entry.evaluation = 7;
  entry.phase = Phase::kMerge;
  entry.generation = 3;
  entry.origin = "crossover";
  entry.hash = {0x0123456789abcdef, 0xfedcba9876543210};
  entry.result = {0.875, -1.0 / 3.0, 128};
  entry.cached = true;
  CHECK(archive_line(entry, FitnessKind::kMetricThenLoglik) ==
        "{\"evaluation\": 7, \"phase\": \"merge\", \"generation\": 3, \"origin\": \"crossover\", "
        "\"hash\": \"xxh3:0123456789abcdeffedcba9876543210\", \"fitness\": 0.875, "
        "\"tiebreak\": -0.3333333333333333, \"n\": 128, \"cached\": true}");
  entry.phase = Phase::kPrune;
  entry.origin = "a \"name\"\n";
  entry.result.fitness = kNan;
  entry.cached = false;
  CHECK(archive_line(entry, FitnessKind::kMetric) ==
        "{\"evaluation\": 7, \"phase\": \"prune\", \"generation\": 3, \"origin\": \"a \\\"name\\\"\\n\", "
        "\"hash\": \"xxh3:0123456789abcdeffedcba9876543210\", \"fitness\": null, \"n\": 128, \"cached\": "
        "false}");
}

TEST_CASE("the decimal of a fitness reads back as the same double") {
  ArchiveEntry entry;
  for (const double value :
       {0.1, 1.0 / 3.0, 1.0, 0.0, -2.5e-17, 1e23, 5e-324, 0.1 + 0.2, -1.7976931348623157e308}) {
    entry.result.fitness = value;
    const std::string line = archive_line(entry, FitnessKind::kMetric);
    const double back = std::strtod(line.c_str() + line.find("\"fitness\": ") + 11, nullptr);
    CHECK(std::memcmp(&back, &value, sizeof(value)) == 0);
  }
}
