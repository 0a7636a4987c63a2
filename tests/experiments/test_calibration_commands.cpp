// calibrate on text, select over several score files, keep lists there and back: the commands from outside.
#include <doctest/doctest.h>

#include <algorithm>

#include "loaders/formats/json.h"
#include "loaders/models/plan_io.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

bool says(const Outcome& outcome, const std::string& what) {
  return outcome.err.find(what) != std::string::npos;
}

// Rows of letters, as the demo's tasks have them.
std::string rows(const std::vector<std::string>& letters) {
  std::string text;
  for (const std::string& each : letters) text += Json{{"text", "Sort: " + each}}.dump() + "\n";
  return text;
}

Json read(const std::string& path) { return parse_json(slurp(path), path); }

}  // namespace

TEST_CASE("calibrate: rows of every shape are counted, and what is wrong is found before the work") {
  const TempDir directory;
  const std::string out = directory("scores.json");
  const std::string text = directory.write(
      "rows.jsonl",
      "{\"text\": \"Sort: d b a c\"}\n{\"prompt\": \"Sort: c b\", \"completion\": \"b c\"}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"Sort: b a\"}]}\n"
      "{\"conversations\": [{\"from\": \"human\", \"value\": \"Sort: d a\"}]}\n{\"text\": \"\"}\n");
  const Outcome made =
      eep::test::eep({"calibrate", kDemoModel, "--text", text, "--experts", "4", "--out", out});
  CAPTURE(made.err);
  REQUIRE(made.code == 0);
  CHECK(says(made,
             "rows: 4 used (1 text, 1 prompt/completion, 1 messages, 1 conversations), 1 skipped (no text)"));
  const Json scores = read(out);
  CHECK(scores.at("rows") == Json{{"used", 4}, {"skipped", 1}});
  CHECK(scores.at("task") == "rows.jsonl");
  CHECK(scores.at("data").get<std::string>().starts_with("xxh3:"));
  const int64_t tokens = scores.at("tokens").get<int64_t>();
  CHECK(tokens > 20);
  CHECK(scores.at("layers")[0].at("interaction").size() == 64);

  const auto refused = [&](std::vector<std::string> arguments, int code, const std::string& what) {
    const std::string other = directory("none.json");
    arguments.insert(arguments.begin(), {"calibrate", kDemoModel, "--out", other});
    const Outcome outcome = eep::test::eep(arguments);
    CAPTURE(outcome.err);
    CHECK(outcome.code == code);
    CHECK(says(outcome, what));
    CHECK(!std::filesystem::exists(other));
  };
  refused(
      {"--text", text, "--min-tokens", std::to_string(tokens + 1)}, 65,
      "too few tokens (expected at least " + std::to_string(tokens + 1) + ", got " + std::to_string(tokens));
  refused({"--text", directory.write("bad.jsonl", rows({"a b"}) + "{\"question\": \"?\"}\n")}, 65,
          "bad.jsonl:2: a row without text that is known");
  refused({"--text", directory.write("empty.jsonl", "{\"text\": \"\"}\n")}, 65,
          "too few tokens (expected at least 1, got 0; rows: 0 used, 1 skipped");
  refused({"--text", directory("missing.jsonl")}, 66, "missing.jsonl");
  refused({"--text", text, "--task", "sort"}, 2, "exactly one of --task and --text");
  refused({}, 2, "exactly one of --task and --text");
  refused({"--text", text, "--template", "jinja"}, 2, "--template");
  refused({"--text", text, "--template", "on"}, 2, "--template: no chat template in the files of");
}

TEST_CASE("calibrate: plain text, whole or in windows, and rows that stand twice count twice") {
  const TempDir directory;
  const auto tokens = [&](const std::string& file, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"calibrate", kDemoModel, "--text", file,
                                       "--experts", "4",        "--out",  directory("s.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome made = eep::test::eep(arguments);
    CAPTURE(made.err);
    CHECK(made.code == 0);
    return read(directory("s.json")).at("tokens").get<int64_t>();
  };
  const std::string plain = directory.write("plain.txt", "Sort: d b a c\nSort: a b\n");
  CHECK(tokens(plain) == tokens(plain, {"--window", "5"}));
  const int64_t once = tokens(directory.write("once.jsonl", rows({"d b a c"})));
  CHECK(tokens(directory.write("twice.jsonl", rows({"d b a c", "d b a c"}))) == 2 * once);
  CHECK(tokens(directory("twice.jsonl"), {"--limit", "1"}) == once);
}

TEST_CASE("select: score files add exactly, weights count a text so often, other models are refused") {
  const TempDir directory;
  const auto calibrated = [&](const std::string& name, const std::vector<std::string>& letters) {
    const std::string out = directory(name + ".json");
    const Outcome made =
        eep::test::eep({"calibrate", kDemoModel, "--text", directory.write(name + ".jsonl", rows(letters)),
                        "--experts", "4", "--out", out});
    CAPTURE(made.err);
    REQUIRE(made.code == 0);
    return out;
  };
  const std::string a = calibrated("a", {"d b a c", "c a"}), b = calibrated("b", {"b d", "a d c", "c b a"});
  const std::string together =
      calibrated("together", {"d b a c", "c a", "d b a c", "c a", "b d", "a d c", "c b a"});
  const auto selected = [&](std::vector<std::string> scores, const std::vector<std::string>& more = {}) {
    scores.insert(scores.begin(), "select");
    const std::vector<std::string> rest{"--experts", "4", "--out", directory("plan.json")};
    scores.insert(scores.end(), rest.begin(), rest.end());
    scores.insert(scores.end(), more.begin(), more.end());
    return eep::test::eep(scores);
  };
  for (const char* method : {"reap", "frequency", "easyep", "hope", "aimer", "naee"}) {
    CAPTURE(method);
    const Outcome whole = selected({together}, {"--method", method});
    REQUIRE(whole.code == 0);
    const Json expected = read(directory("plan.json")).at("groups");
    const Outcome blend = selected({a + ":2", b}, {"--method", method});
    CAPTURE(blend.err);
    REQUIRE(blend.code == 0);
    CHECK(read(directory("plan.json")).at("groups") == expected);
    CHECK(std::count(blend.out.begin(), blend.out.end(), '\n') == 3);
    CHECK(blend.out.find("a.json") != std::string::npos);
  }
  CHECK(selected({a, b}, {"--method", "reap", "--maxmin"}).code == 0);
  CHECK(read(directory("plan.json")).at("provenance").at("blend") == "maxmin");
  for (const char* method : {"msmoe", "hcsmoe", "ream", "shape", "mone"}) {
    CAPTURE(method);
    const Outcome one = selected({a}, {"--method", method});
    CAPTURE(one.err);
    CHECK(one.code == 0);
  }
  CHECK(selected({a}, {"--method", "reap", "--allocation", "alpha_mass", "--least", "1"}).code == 0);
  CHECK(says(selected({a, b}, {"--method", "mone"}), "lacks what mone needs"));
  CHECK(says(selected({a + ":none"}, {"--method", "reap"}), "not a weight"));
  CHECK(selected({a + ":0"}, {"--method", "reap"}).code == 2);
  CHECK(selected({a, b}, {"--method", "naee", "--maxmin"}).code == 2);
  std::string foreign = slurp(b);
  const size_t hash = foreign.find("xxh3:") + 5;
  foreign[hash] = foreign[hash] == '0' ? '1' : '0';
  const Outcome other = selected({a, directory.write("foreign.json", foreign)}, {"--method", "reap"});
  CHECK(other.code == 65);
  CHECK(says(other, "foreign.json: statistics of another model than "));
}

TEST_CASE("select: one score file twice is refused by any path, two of one text are said") {
  const TempDir directory;
  const std::string a = directory("a.json"), text = directory.write("a.jsonl", rows({"d b a c", "c a"}));
  REQUIRE(eep::test::eep({"calibrate", kDemoModel, "--text", text, "--experts", "4", "--out", a}).code == 0);
  std::filesystem::copy(a, directory("copy.json"));
  std::filesystem::create_symlink(a, directory("link.json"));
  const auto select = [&](const std::vector<std::string>& files) {
    std::vector<std::string> words{"select"};
    words.insert(words.end(), files.begin(), files.end());
    for (const char* word : {"--method", "reap", "--experts", "4", "--out"}) words.emplace_back(word);
    words.push_back(directory("plan.json"));
    return eep::test::eep(words);
  };
  for (const std::string& other :
       {a, directory("./a.json"), directory("copy.json"), directory("link.json"), a + ":2"}) {
    CAPTURE(other);
    check_one_error(select({a, other}), 2, a + (other == a + ":2" ? ":3" : ":2"));
  }
  CHECK(!std::filesystem::exists(directory("plan.json")));
  Json of_other_options = read(a);
  of_other_options["layers"][0]["count"][0] = 1;
  const Outcome said = select({a, directory.write("b.json", of_other_options.dump())});
  CHECK(said.code == 0);
  CHECK(says(said, "b.json are of the same text (a.jsonl), which counts twice"));
}

TEST_CASE("select: experts that no token reached are named") {
  const TempDir directory;
  const std::string text = directory.write("one.jsonl", rows({"a"}));
  REQUIRE(eep::test::eep(
              {"calibrate", kDemoModel, "--text", text, "--experts", "4", "--out", directory("s.json")})
              .code == 0);
  Json scores = read(directory("s.json"));
  for (Json& layer : scores.at("layers")) {
    layer.at("count") = {5, 4, 3, 0, 0, 0, 0, 0};
  }
  const Outcome chosen = eep::test::eep({"select", directory.write("few.json", scores.dump()), "--method",
                                         "frequency", "--experts", "4", "--out", directory("p.json")});
  CHECK(chosen.code == 0);
  CHECK(
      says(chosen, "layer 0: kept 3 and dropped 4, 5, 6, 7 have the same score 0: the lower index decides"));
  CHECK(says(chosen, "no token was routed to experts 3, 4, 5, 6, 7"));
}

TEST_CASE("keep lists: out of select, back by import-keep-list, and those of others") {
  const TempDir directory;
  const std::string text = directory.write("t.jsonl", rows({"d b a c", "c a"}));
  REQUIRE(eep::test::eep(
              {"calibrate", kDemoModel, "--text", text, "--experts", "4", "--out", directory("s.json")})
              .code == 0);
  REQUIRE(eep::test::eep({"select", directory("s.json"), "--method", "reap", "--experts", "4",
                          "--export-keep-list", directory("kept.json"), "--out", directory("plan.json")})
              .code == 0);
  const auto import = [&](const std::string& list, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"import-keep-list", list,    "--model",
                                       kDemoModel,         "--out", directory("again.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return eep::test::eep(arguments);
  };
  REQUIRE(import(directory("kept.json")).code == 0);
  CHECK(read_plan(directory("again.json")).groups == read_plan(directory("plan.json")).groups);
  const Json layers = read(directory("kept.json"));
  Json ranked;
  for (size_t layer = 0; layer < layers.size(); ++layer)
    ranked["model.layers." + std::to_string(layer) + ".mlp"] = {7, 2, 5, 0, 1, 3, 4, 6};
  const std::string ranking = directory.write("ranked.json", ranked.dump());
  CHECK(import(ranking).code == 65);
  REQUIRE(import(ranking, {"--experts", "3"}).code == 0);
  CHECK(read_plan(directory("again.json")).groups[0] == one_hot_group({0}, {2, 5, 7}, 8));
  CHECK(import(ranking, {"--experts", "9"}).code == 2);
  CHECK(import(directory("missing.json")).code == 66);
  CHECK(import(directory.write("bad.json", "{\"0\": [1, 9]}")).code == 65);
}

TEST_CASE("export: counts by layer, verified, evaluated, and not pruned again") {
  const TempDir directory;
  const std::string text = directory.write("t.jsonl", rows({"d b a c", "c a"}));
  REQUIRE(eep::test::eep(
              {"calibrate", kDemoModel, "--text", text, "--experts", "4", "--out", directory("s.json")})
              .code == 0);
  REQUIRE(eep::test::eep({"select", directory("s.json"), "--method", "wean", "--experts", "4", "--allocation",
                          "alpha_mass", "--out", directory("plan.json")})
              .code == 0);
  std::vector<int32_t> counts;
  for (const PlanGroup& group : read_plan(directory("plan.json")).groups) counts.push_back(group.kept);
  REQUIRE(*std::min_element(counts.begin(), counts.end()) < *std::max_element(counts.begin(), counts.end()));
  const Outcome stock =
      eep::test::eep({"export", kDemoModel, "--plan", directory("plan.json"), "--out", directory("hf")});
  CHECK(stock.code == 65);
  CHECK(says(stock, "--format hf-per-layer"));
  REQUIRE(eep::test::eep({"export", kDemoModel, "--plan", directory("plan.json"), "--out", directory("out"),
                          "--format", "hf-per-layer"})
              .code == 0);
  CHECK(read(directory("out/config.json")).at("per_layer_num_experts") == Json(counts));
  const Outcome verified = eep::test::eep({"verify", directory("out"), "--against", kDemoModel});
  CAPTURE(verified.out);
  CHECK(verified.code == 0);
  CHECK(verified.out.find("equal to the bit") != std::string::npos);
  CHECK(eep::test::eep({"inspect", directory("out")}).code == 0);
  CHECK(eep::test::eep({"generate", directory("out"), "--prompt", "Sort: b a", "--max-new", "4"}).code == 0);
  const Outcome again =
      eep::test::eep({"calibrate", directory("out"), "--text", text, "--out", directory("x.json")});
  CHECK(again.code == 2);
  CHECK(says(again, "is the result of a plan"));
}
