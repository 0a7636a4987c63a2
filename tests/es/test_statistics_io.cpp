// SCORES.json: there and back; strict.
#include <doctest/doctest.h>

#include <string>

#include "es/statistics_io.h"
#include "kernels/common/error.h"

using namespace eep;

namespace {

StatisticsFile sample() {
  StatisticsFile file;
  file.model = "xxh3:00112233";
  file.data = "xxh3:\"quoted\"";
  file.task = "recall";
  file.statistics.experts = 3;
  file.statistics.top_k = 2;
  file.statistics.tokens = 1000;
  for (const int32_t number : {1, 4}) {
    LayerStatistics layer;
    layer.layer = number;
    const double third = 1.0 / 3.0;
    layer[ExpertSum::kCount] = {4, 2, 0};
    layer[ExpertSum::kGate] = {third, 1e-17, 5e300};
    for (auto* values :
         {&layer[ExpertSum::kSelectedProbability], &layer[ExpertSum::kProbability], &layer[ExpertSum::kNorm],
          &layer[ExpertSum::kSquaredNorm], &layer[ExpertSum::kGateNorm], &layer[ExpertSum::kProbabilityNorm],
          &layer[ExpertSum::kGateSquaredNorm], &layer[ExpertSum::kMaxActivation]}) {
      *values = {third * number, 0.1, 2};
    }
    layer.subset_errors = {{2, true, {{0, 1}, {0, 2}, {1, 2}}, {0.1, third, 7}}, {1, false, {{2}}, {3}}};
    file.statistics.layers.push_back(layer);
  }
  return file;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

std::string message_of(const std::string& text) {
  try {
    parse_statistics(text, "scores.json");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kData);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("statistics files go there and back, every double the same") {
  const StatisticsFile file = sample();
  const std::string text = statistics_json(file);
  CHECK(text.back() == '\n');
  const StatisticsFile back = parse_statistics(text, "scores.json");
  CHECK(statistics_json(back) == text);
  CHECK(back.model == file.model);
  CHECK(back.data == file.data);
  CHECK(back.task == file.task);
  CHECK(back.statistics.experts == 3);
  CHECK(back.statistics.top_k == 2);
  CHECK(back.statistics.tokens == 1000);
  REQUIRE(back.statistics.layers.size() == 2);
  const LayerStatistics& layer = back.statistics.layers[1];
  CHECK(layer.layer == 4);
  CHECK(layer[ExpertSum::kGate] == file.statistics.layers[1][ExpertSum::kGate]);
  CHECK(layer[ExpertSum::kMaxActivation] == file.statistics.layers[1][ExpertSum::kMaxActivation]);
  REQUIRE(layer.subset_errors.size() == 2);
  CHECK(layer.subset_errors[0].subsets == file.statistics.layers[1].subset_errors[0].subsets);
  CHECK(layer.subset_errors[0].error == file.statistics.layers[1].subset_errors[0].error);
  CHECK(layer.subset_errors[0].exhaustive);
  CHECK_FALSE(layer.subset_errors[1].exhaustive);
}

TEST_CASE("what is not such a file is an error with its place") {
  const std::string text = statistics_json(sample());
  CHECK(message_of(text).empty());
  const auto says = [&](const std::string& from, const std::string& to, const std::string& part) {
    CAPTURE(from);
    CAPTURE(to);
    const std::string message = message_of(replaced(text, from, to));
    CAPTURE(message);
    CHECK(message.find(part) != std::string::npos);
  };
  says("eep-statistics", "eep-plan", "format: unknown format");
  says("\"version\":1", "\"version\":2", "version: number out of range");
  says("\"experts\":3", "\"experts\":100000", "experts: number out of range");
  says("\"experts\":3", "\"experts\":4", "layers[0].count: wrong length (expected 4, got 3)");
  says("\"experts\":3", "\"experts\":18446744073709551615", "experts: number out of range");
  says("\"experts\":3", "\"experts\":3.0", "experts: wrong type (expected integer");
  says("\"top_k\":2", "\"top_k\":4", "top_k: number out of range");
  says("\"tokens\":1000", "\"tokens\":-1", "tokens: number out of range");
  says("\"tokens\":1000,", "", "key tokens is missing");
  says("\"tokens\":1000", "\"tokens\":1000,\"more\":1", "unknown key more");
  says("\"tokens\":1000", "\"tokens\":1000,\"tokens\":1000", "duplicate key tokens");
  says("\"layer\":1,", "\"layer\":5,", "layers[1]: layers are not ascending");
  says("\"count\":[4.0", "\"count\":[-4.0", "layers[0].count[0]: number out of range");
  // as it is written, where a double would be spelled otherwise
  says("\"count\":[4.0", "\"count\":[-123456789012345678901234567890",
       "layers[0].count[0]: number out of range (expected 0 or more, got -123456789012345678901234567890)");
  says("\"error\":[0.1", "\"error\":[-1.50",
       "subset_errors[0].error[0]: number out of range (expected 0 or more, got -1.50)");
  says("\"count\":[4.0", "\"count\":[null", "layers[0].count[0]: wrong type");
  says("\"count\":[4.0", "\"count\":[1e999", "no double can hold");
  says("\"subsets\":[[0,1]", "\"subsets\":[[1,1]",
       "subsets[0][1]: number out of range (expected 2..2, got 1)");
  says("\"subsets\":[[0,1],[0,2]", "\"subsets\":[[0,1],[0,1]", "the same subset twice");
  says("\"subsets\":[[0,1]", "\"subsets\":[[0]", "subsets[0]: wrong length");
  says("\"exhaustive\":true", "\"exhaustive\":1", "exhaustive: wrong type");
  says("\"kept\":2", "\"kept\":7", "kept: number out of range");
  says("\"task\":\"recall\"", "\"task\":[]", "task: wrong type");
  says("\"model\":", "\"model\"", "scores.json:1:");
  CHECK(message_of("[]").find("wrong type (expected object") != std::string::npos);
  CHECK(message_of("").find("scores.json:1:1: not JSON") != std::string::npos);
  CHECK(message_of("{\n  \"format\" 1}").find("scores.json:2:") != std::string::npos);
}

TEST_CASE("truncated files and nests without end are errors") {
  const std::string text = statistics_json(sample());
  for (size_t length = 0; length + 1 < text.size(); ++length) {
    CHECK_FALSE(message_of(text.substr(0, length)).empty());
  }
  CHECK_FALSE(message_of(std::string(1000000, '[')).empty());
  std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  CHECK_FALSE(message_of(deep).empty());
}
