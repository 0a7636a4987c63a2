// A run whose candidates race.
#include <doctest/doctest.h>

#include <map>
#include <sstream>

#include "loaders/formats/json.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

std::vector<Json> lines_of(const std::string& file) {
  std::vector<Json> lines;
  std::istringstream text(slurp(file));
  for (std::string line; std::getline(text, line);) lines.push_back(parse_json(line, file));
  return lines;
}

}  // namespace

TEST_CASE("run: racing drops candidates early, says so, and leaves the others' scores as they are") {
  TempDir directory;
  const std::string file = directory.write("e.yaml", "name: race\nmodel: {path: " + kDemoModel + "}\n" +
                                                         R"(
task: {name: sense_two, train: {limit: 128}, dev: {limit: 12}, test: {limit: 20}}
plan: {experts: 2, groups: per_layer}
search:
  population: 8
  dev_count: 2
  racing: true
  racing_items: 16
  racing_errors: 2
  prune: {algorithm: genetic, evaluations: 40, genetic: {initial: 8, survivors: 4}}
  merge: {evaluations: 24}
baselines: [full, frequency]
controls: [prune_only]
)");
  const std::string run = directory("run"), whole = directory("whole"), again = directory("again");
  REQUIRE(eep::test::eep({"run", file, "--output", run}).code == 0);
  REQUIRE(eep::test::eep({"run", file, "--set", "search.racing=false", "--output", whole}).code == 0);
  std::map<std::string, Json> scores;
  for (const Json& line : lines_of(whole + "/archive.jsonl")) {
    CHECK(line.at("n") == 128);
    scores[line.at("hash")] = line;
  }
  int64_t dropped = 0, seen = 0, compared = 0, made = 0;
  for (const Json& line : lines_of(run + "/archive.jsonl")) {
    const auto n = line.at("n").get<int64_t>();
    const bool out = line.contains("dropped");
    CHECK(out == (n < 128));
    if (line.at("cached") == false) {
      dropped += out;
      seen += n;
      ++made;
    }
    const auto known = scores.find(line.at("hash"));
    if (out || known == scores.end()) continue;
    ++compared;
    for (const char* key : {"fitness", "tiebreak", "n"}) CHECK(line.at(key) == known->second.at(key));
  }
  CHECK(dropped > 0);
  CHECK(compared >= 16);  // the first two generations at least
  const Json racing = parse_json(slurp(run + "/result.json"), "result.json").at("search").at("racing");
  CHECK(racing.at("dropped") == dropped);
  CHECK(racing.at("items") == seen);
  CHECK(racing.at("items_without_racing") == 128 * made);
  CHECK(!parse_json(slurp(whole + "/result.json"), "result.json").at("search").contains("racing"));
  CHECK(slurp(run + "/controls/prune_only/archive.jsonl").find("dropped") == std::string::npos);
  // The resolved file is the same experiment.
  REQUIRE(eep::test::eep({"run", run + "/config.resolved.yaml", "--output", again}).code == 0);
  CHECK(slurp(again + "/archive.jsonl") == slurp(run + "/archive.jsonl"));
}

TEST_CASE("run: racing is refused with several tasks or objectives") {
  TempDir directory;
  const std::string file = directory.write("e.yaml", "model: {path: " + kDemoModel + "}\n" +
                                                         R"(
task: {name: sort, train: {limit: 8}, dev: {limit: 8}, test: {limit: 8}}
tasks: [{name: sort}, {name: sum}]
plan: {experts: 4}
search: {racing: true}
)");
  const Outcome several = eep::test::eep({"run", file, "--output", directory("none")});
  CHECK(several.code == 78);
  CHECK(several.err.find("search.racing: several tasks") != std::string::npos);
}
