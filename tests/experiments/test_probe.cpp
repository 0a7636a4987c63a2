// Probes of generation: the figures, the file, and the command beside the full model.
#include <doctest/doctest.h>

#include "experiments/study/probe.h"
#include "kernels/common/error.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("probe: distinct 4-grams of a text, and when it loops") {
  const std::vector<int32_t> ends{2};
  const auto figures = [&](const std::vector<int32_t>& ids) { return probe_figures(ids, ends); };
  CHECK(!figures({5, 6, 7, 2}).distinct4);
  CHECK(figures({5, 6, 7, 2}).tokens == 3);
  CHECK(*figures({5, 6, 7, 8, 9, 2}).distinct4 == 1.0);
  const ProbeFigures looped = figures({1, 1, 1, 1, 1, 1, 1, 1});
  CHECK(*looped.distinct4 == doctest::Approx(1.0 / 5));
  CHECK(looped.loops());
  CHECK(*figures({1, 3, 1, 3, 1, 3, 1}).distinct4 == doctest::Approx(2.0 / 4));
  const Json json = probe_json({{"plan", {looped, figures({5})}}});
  CHECK(json["models"][0]["loop_rate"] == 0.5);
  CHECK(json["models"][0]["each"][1]["distinct4"].is_null());
}

TEST_CASE("probe: prompts are lines, JSON strings or objects") {
  const TempDir directory;
  const std::string file =
      directory.write("p.txt", "plain\n\n\"a\\nb\"\r\n{\"prompt\": \"c\"}\n{\"text\": \"d\"}");
  CHECK(read_probes(file) == std::vector<std::string>{"plain", "a\nb", "c", "d"});
  for (const char* wrong : {"", "\n", "{\"q\": 1}\n", "{\n", "\"\"\n"})
    CHECK_THROWS_AS(read_probes(directory.write("w.txt", wrong)), Error);
}

TEST_CASE("probe: a plan beside the full model") {
  const TempDir directory;
  const std::string model = std::string(EEP_SOURCE_DIR) + "/experiments/demo/mixtral";
  const std::string file = directory.write("p.txt", "Sort: d b a c\nSort: b a\n");
  const Outcome alone = eep::test::eep({"generate", model, "--probe", file, "--max-new", "12"});
  CAPTURE(alone.err);
  REQUIRE(alone.code == 0);
  CHECK(alone.out.find("model: loop rate") != std::string::npos);
  const Outcome beside =
      eep::test::eep({"generate", model, "--probe", file, "--max-new", "12", "--against", model, "--json"});
  REQUIRE(beside.code == 0);
  const Json json = parse_json(beside.out, "stdout");
  CHECK(json["probes"] == 2);
  REQUIRE(json["models"].size() == 2);
  CHECK(json["models"][0]["each"] == json["models"][1]["each"]);
  CHECK(eep::test::eep({"generate", model, "--probe", file, "--prompt", "x"}).code == 2);
}
