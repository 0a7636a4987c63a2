// eep report: its page is well-formed and needs nothing beside it, its pictures show the numbers of its CSV
// files, texts stay texts, and a run directory with parts missing or damaged is reported or refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <map>

#include "experiments/report/report.h"
#include "experiments/report/run_record.h"
#include "kernels/common/error.h"
#include "loaders/formats/json.h"
#include "tests/experiments/markup.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

namespace fs = std::filesystem;

using Rows = std::vector<std::vector<std::string>>;

std::string experiment(const TempDir& directory, const std::string& more) {
  return directory.write("e.yaml",
                         "name: small\nmodel: {path: " + kDemoModel + "}\n" +
                             R"(task: {name: sort, train: {limit: 12}, dev: {limit: 12}, test: {limit: 20}}
plan: {experts: 4, groups: 2}
search:
  population: 5
  dev_count: 3
  prune: {evaluations: 14, initial: 8}
  merge: {evaluations: 18}
baselines: [full, random, frequency, reap]
random_draws: 3
controls: [random]
)" + more);
}

// A run directory written by hand, all of whose texts are `text`.
struct HandMade {
  TempDir directory;
  std::string path = directory("run");

  explicit HandMade(const std::string& text) {
    for (const char* folder : {"", "/plans", "/samples"}) fs::create_directories(path + folder);
    const Json split{{"score", 0.75}, {"n", 4}};
    Json test{{"score", 0.5}, {"n", 4}, {"stderr", 0.25}, {"ci95", {0.15, 0.85}}, {"p_vs_full", nullptr}};
    Json methods = Json::array();
    for (const char* name : {"full", "frequency", "eep_merge"}) {
      const bool full = std::string(name) == "full";
      methods.push_back({{"name", name},
                         {"experts", full ? 4 : 2},
                         {"top_k", 1},
                         {"parameters", full ? 4000 : 2000},
                         {"bytes", full ? 8000 : 4000},
                         {"train", split},
                         {"dev", split},
                         {"test", test},
                         {"evaluations", std::string(name) == "eep_merge" ? 4 : 0},
                         {"seconds", 0.5},
                         {"plan", full ? Json(nullptr) : Json(std::string("plans/") + name + ".json")}});
      std::string samples;
      for (int item = 0; item < 4; ++item)
        samples += Json{{"item", item},
                        {"prompt", text},
                        {"target", text},
                        {"prediction", text},
                        {"score", (item + (full ? 0 : 1)) % 2},
                        {"right_loglik", -1.0}}
                       .dump() +
                   "\n";
      write(std::string("samples/") + name + ".jsonl", samples);
      if (!full)
        write(std::string("plans/") + name + ".json",
              R"({"format": "eep-plan", "version": 1, "top_k": 1, "router_space": "logits",
 "groups": [{"layers": [0, 1], "router_mapping": [[1, 0, 0, 0], [0, 0.25, 1, 0]],
             "expert_merging": [[1, 0, 0, -0.125], [0, 0.25, 1, 0]]}]})");
    }
    write("result.json", Json{{"format", "eep-result"},
                              {"version", 1},
                              {"name", text},
                              {"seed", 7},
                              {"device", text},
                              {"weights", text},
                              {"task", {{"name", text}, {"protocol", text}, {"metric", "acc"}}},
                              {"methods", methods},
                              {"search",
                               {{"evaluations", 4},
                                {"unique", 4},
                                {"algorithm", text},
                                {"seconds", 2.0},
                                {"candidates_per_second", 2.0},
                                {"tokens", 100},
                                {"tokens_without_sharing", 400}}}}
                             .dump());
    write("manifest.json", Json{{"version", text},
                                {"started", text},
                                {"command", text},
                                {"cpu", text},
                                {"model", {{"path", "/data/" + text}, {"hash", text}}},
                                {"data", {{"train", text}}}}
                               .dump());
    std::string archive, metrics, finalists;
    for (int i = 0; i < 4; ++i) {
      archive += Json{{"evaluation", i},
                      {"phase", i < 2 ? "prune" : "merge"},
                      {"generation", i % 2},
                      {"origin", text},
                      {"hash", "xxh3:0"},
                      {"fitness", 0.25 * i},
                      {"n", 4},
                      {"cached", false}}
                     .dump() +
                 "\n";
      metrics += Json{{"phase", i < 2 ? "prune" : "merge"},
                      {"generation", i % 2},
                      {"evaluations", i + 1},
                      {"evaluated", 1},
                      {"best", 0.25 * i},
                      {"wall_s", 0.5 * (i + 1)}}
                     .dump() +
                 "\n";
      finalists +=
          Json{{"method", text}, {"evaluation", i}, {"train", 0.25 * i}, {"dev", 0.5}, {"chosen", i == 3}}
              .dump() +
          "\n";
    }
    write("archive.jsonl", archive);
    write("metrics.jsonl", metrics);
    write("finalists.jsonl", finalists);
    write(
        "export_check.json",
        Json{{"passed", false}, {"checks", {{{"check", text}, {"passed", false}, {"detail", text}}}}}.dump());
    write("probe.json",
          Json{{"probes", 8},
               {"models",
                {{{"name", text}, {"loops", 2}, {"loop_rate", 0.25}, {"distinct4", 0.875}},
                 {{"name", text + " full"}, {"loops", 0}, {"loop_rate", 0}, {"distinct4", nullptr}}}}}
              .dump());
  }

  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path + "/" + name, std::ios::binary) << text;
  }
  std::string page() const { return slurp(path + "/report.html"); }
};

Markup checked_page(const std::string& directory) {
  const std::string page = slurp(directory + "/report.html");
  CAPTURE(directory);
  const Markup markup = read_markup(page);
  CHECK(markup.error == "");
  for (const std::string& reference : markup.references) {
    CAPTURE(reference);
    CHECK(markup.ids.count(reference) == 1);
  }
  for (const std::string& element : markup.elements) {
    CAPTURE(element);
    CHECK(std::set<std::string>{"script", "img", "link", "iframe", "object", "image", "use"}.count(element) ==
          0);
  }
  for (const std::string& attribute : markup.attributes) CHECK(!attribute.starts_with("on"));
  for (const char* outside : {"http://", "https://", "url(", "@import"}) {
    size_t at = page.find(outside);
    while (at != std::string::npos && page.substr(at).starts_with("http://www.w3.org/2000/svg"))
      at = page.find(outside, at + 1);
    CAPTURE(outside);
    CHECK(at == std::string::npos);
  }
  return markup;
}

std::map<std::string, Rows> figures_of(const std::string& directory) {
  std::map<std::string, Rows> figures;
  for (const auto& entry : fs::directory_iterator(directory + "/figures")) {
    const Rows rows = read_csv(slurp(entry.path().string()));
    CAPTURE(entry.path().string());
    REQUIRE(!rows.empty());
    CHECK(rows[0][0] == "run");
    for (const auto& row : rows) CHECK(row.size() == rows[0].size());
    figures[entry.path().stem().string()] = rows;
  }
  return figures;
}

size_t column(const Rows& rows, const std::string& name) {
  const auto found = std::find(rows[0].begin(), rows[0].end(), name);
  REQUIRE(found != rows[0].end());
  return static_cast<size_t>(found - rows[0].begin());
}

// Every number of the column stands in a text of the page: in the note of its mark.
void check_shown(const Rows& rows, const std::string& name, const Markup& page) {
  const size_t at = column(rows, name);
  for (size_t i = 1; i < rows.size(); ++i) {
    CAPTURE(name);
    CAPTURE(rows[i][at]);
    CHECK(page.text.find(rows[i][at]) != std::string::npos);
  }
}

Outcome report(const std::vector<std::string>& arguments) {
  std::vector<std::string> all{"report"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return eep::test::eep(all);
}

}  // namespace

TEST_CASE("report: a run leaves a page whose pictures show the numbers of its files") {
  TempDir directory;
  const std::string run = directory("run");
  const Outcome outcome =
      eep::test::eep({"run", experiment(directory, "export: {format: hf}\n"), "--output", run});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  CHECK(outcome.err.find("no report") == std::string::npos);
  const Markup page = checked_page(run);
  const std::map<std::string, Rows> figures = figures_of(run);
  for (const char* name : {"methods", "size", "fitness", "finalists", "scores", "experts", "coverage",
                           "matrices", "agreement", "items", "pace", "work", "export_check"}) {
    CAPTURE(name);
    CHECK(figures.count(name) == 1);
    CHECK(page.ids.count(std::string("f-") + name) == 1);
  }
  check_shown(figures.at("scores"), "score", page);
  check_shown(figures.at("size"), "score", page);
  check_shown(figures.at("experts"), "saliency", page);
  check_shown(figures.at("coverage"), "coverage", page);
  check_shown(figures.at("coverage"), "effective_experts", page);
  check_shown(figures.at("agreement"), "jaccard", page);
  check_shown(figures.at("finalists"), "dev", page);
  check_shown(figures.at("pace"), "candidates_per_second", page);

  // The files hold what the run found.
  const Json result = parse_json(slurp(run + "/result.json"), "result.json");
  const Rows& methods = figures.at("methods");
  REQUIRE(methods.size() == result.at("methods").size() + 1);
  for (size_t i = 0; i < result.at("methods").size(); ++i) {
    const Json& method = result.at("methods")[i];
    CHECK(methods[i + 1][column(methods, "method")] == method.at("name").get<std::string>());
    CHECK(std::stod(methods[i + 1][column(methods, "test")]) == method.at("test").at("score").get<double>());
    CHECK(std::stoll(methods[i + 1][column(methods, "bytes")]) == method.at("bytes").get<int64_t>());
    if (method.at("name") == "full") continue;
    const double full = result.at("methods")[0].at("test").at("score").get<double>();
    if (full > 0)
      CHECK(std::stod(methods[i + 1][column(methods, "recovery")]) ==
            doctest::Approx(method.at("test").at("score").get<double>() / full));
  }
  const Rows& fitness = figures.at("fitness");
  size_t line = 0;
  std::istringstream archive(slurp(run + "/archive.jsonl"));
  for (std::string text; std::getline(archive, text); ++line) {
    const Json entry = parse_json(text, "archive.jsonl");
    CHECK(std::stod(fitness[line + 1][column(fitness, "fitness")]) == entry.at("fitness").get<double>());
    CHECK(fitness[line + 1][column(fitness, "search")] == "main");
  }
  CHECK(line == 32);
  CHECK(figures.at("export_check")[1][column(figures.at("export_check"), "passed")] == "true");

  const std::string card = slurp(run + "/card.md");
  CHECK(card.starts_with("---\nbase_model: \"mixtral\"\n"));
  CHECK(card.find("| eep\\_merge | 4 |") != std::string::npos);
  CHECK(card.find(kSource) == std::string::npos);  // no paths of this machine
  CHECK(card.find(directory("")) == std::string::npos);

  // Elsewhere, and again: the same files.
  const Outcome again = report({run, "--out", directory("elsewhere")});
  CHECK(again.code == 0);
  CHECK(again.out == directory("elsewhere") + "/report.html\n");
  CHECK(slurp(directory("elsewhere") + "/report.html") == slurp(run + "/report.html"));
  CHECK(slurp(directory("elsewhere") + "/card.md") == card);
}

TEST_CASE("report: a sweep and several runs are compared on one page") {
  TempDir directory;
  const std::string run = directory("run");
  const Outcome outcome = eep::test::eep(
      {"run", experiment(directory, "sweep: {plan.experts: [4, 2], seed: [1, 2]}\n"), "--output", run});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const Markup page = checked_page(run);
  const std::map<std::string, Rows> figures = figures_of(run);
  for (const char* name : {"methods", "size", "best", "seeds", "agreement_runs"}) {
    CAPTURE(name);
    CHECK(page.ids.count(std::string("f-") + name) == 1);
    CHECK(figures.count(name) == 1);
  }
  check_shown(figures.at("seeds"), "mean", page);
  check_shown(figures.at("agreement_runs"), "jaccard", page);
  std::set<std::string> runs;
  for (const auto& row : figures.at("fitness")) runs.insert(row[0]);
  CHECK(runs.size() == 5);  // four, and the head
  const std::string one = run + "/plan.experts=2,seed=1", other = run + "/plan.experts=4,seed=2";
  checked_page(one);  // a report of its own, with the sweep's calibration
  CHECK(figures_of(one).count("coverage") == 1);
  CHECK(slurp(one + "/report.html").find("plan.experts=2,seed=1") != std::string::npos);

  const Outcome two = report({one, other, "--against", run + "/summary.json", "--out", directory("two")});
  CAPTURE(two.err);
  CHECK(two.code == 0);
  const Markup both = checked_page(directory("two"));
  CHECK(both.ids.count("run1") == 1);
  check_shown(figures_of(directory("two")).at("against"), "score", both);

  // A combination that has not begun is said.
  fs::remove_all(other);
  CHECK(report({run}).code == 0);
  CHECK(slurp(run + "/report.html").find("1 more run of the sweep has not begun.") != std::string::npos);
}

TEST_CASE("report: texts stay texts") {
  const HandMade run("</title><script>alert(1)</script>]]>&amp;\" onload='x' |`\xc3\xa9");
  const Outcome outcome = report({run.path});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const Markup page = checked_page(run.path);
  CHECK(page.text.find("</title><script>alert(1)</script>]]>&amp;\" onload='x' |`\xc3\xa9") !=
        std::string::npos);
  std::istringstream card(slurp(run.path + "/card.md"));
  for (std::string line; std::getline(card, line);) {
    if (!line.starts_with("    "))
      CHECK(line.find("<script") == std::string::npos);  // code is shown as it is
  }
}

TEST_CASE("report: the map and the matrices tell what a plan does") {
  const HandMade run("x");
  REQUIRE(report({run.path}).code == 0);
  const std::map<std::string, Rows> figures = figures_of(run.path);
  const Rows& experts = figures.at("experts");
  REQUIRE(experts.size() == 9);  // two layers of four
  const auto cell = [&](size_t row, const char* name) { return experts[row][column(experts, name)]; };
  CHECK(cell(1, "kept") == "true");
  CHECK(cell(2, "given_to") == "2");
  CHECK(cell(2, "coefficient") == "0.25");
  CHECK(cell(4, "given_to") == "0");
  CHECK(cell(4, "coefficient") == "-0.125");
  CHECK(figures.at("matrices").size() == 8);  // four of W_EM, three of W_RM, the head
  const Rows& items = figures.at("items");
  CHECK(std::count_if(items.begin(), items.end(), [&](const auto& row) {
          return row[column(items, "method")] == "eep_merge" && row[column(items, "change")] == "-1";
        }) == 2);
}

TEST_CASE("report: an unfinished run is reported as far as it is") {
  const HandMade run("x");
  fs::remove(run.path + "/result.json");
  std::string archive = slurp(run.path + "/archive.jsonl");
  run.write("archive.jsonl", archive.substr(0, archive.size() - 20));
  const Outcome outcome = report({run.path});
  CAPTURE(outcome.err);
  REQUIRE(outcome.code == 0);
  const Markup page = checked_page(run.path);
  CHECK(page.text.find("has not finished") != std::string::npos);
  CHECK(page.text.find("archive.jsonl is cut") != std::string::npos);
  CHECK(page.ids.count("f-fitness") == 1);
  CHECK(figures_of(run.path).at("fitness").size() == 4);
  CHECK(slurp(run.path + "/card.md").find("has not finished") != std::string::npos);
}

TEST_CASE("report: missing parts are said, damaged ones refused with their place") {
  for (const char* name :
       {"manifest.json", "archive.jsonl", "metrics.jsonl", "plans/eep_merge.json", "samples/full.jsonl"}) {
    const HandMade run("x");
    fs::remove(run.path + "/" + name);
    CAPTURE(name);
    const Outcome outcome = report({run.path});
    CHECK(outcome.code == 0);
    CHECK(outcome.err.find(std::string(name) + " is missing") != std::string::npos);
    CHECK(checked_page(run.path).text.find(name) != std::string::npos);
  }
  for (const char* name :
       {"result.json", "manifest.json", "archive.jsonl", "metrics.jsonl", "finalists.jsonl",
        "plans/eep_merge.json", "samples/full.jsonl", "export_check.json", "probe.json"}) {
    const HandMade run("x");
    const std::string whole = slurp(run.path + "/" + name);
    for (const std::string& damaged : {whole.substr(0, whole.size() / 2 - 7), std::string("[1, 2]\n"),
                                       std::string("\xff\xfe"), std::string("3\n")}) {
      run.write(name, damaged);
      const Outcome outcome = report({run.path});
      CAPTURE(name);
      CAPTURE(damaged);
      CAPTURE(outcome.err);
      CHECK(outcome.code == 65);
      check_one_error(outcome, 65, name);
      const bool known = std::string(name) != "manifest.json";  // which version it was
      check_one_error(outcome, 65, known ? "eep x wrote the run" : "eep run --resume " + run.path);
    }
  }
  for (const char* name : {"archive.jsonl", "samples/full.jsonl"}) {  // cut between two lines
    const HandMade run("x");
    const std::string whole = slurp(run.path + "/" + name);
    run.write(name, whole.substr(0, whole.rfind('\n', whole.size() - 2) + 1));
    const Outcome outcome = report({run.path});
    CHECK(outcome.code == 65);
    CHECK(outcome.err.find("expected 4 lines, got 3") != std::string::npos);
  }
  TempDir directory;
  CHECK(report({directory("none")}).code == 66);
  fs::create_directories(directory("empty"));
  CHECK(report({directory("empty")}).code == 66);
  CHECK(report({}).code == 2);
  const HandMade run("x");
  CHECK(report({run.path, "--against", directory("none.json")}).code == 66);
  CHECK(report({run.path, "--against", directory.write("a.json", "{\"rows\": []}")}).code == 65);
  CHECK(report({run.path, "--against",
                directory.write("b.json", R"({"format": "eep-published", "rows": [{"task": "x", "method": "m",
                                              "score": 87}]})")})
            .code == 65);
  CHECK(report({run.path, "--out", directory("a.json") + "/x"}).code == 74);
}

TEST_CASE("report: what another version wrote is refused or named, never left out in silence") {
  const auto with = [](const std::string& name, const std::function<void(Json&)>& change) {
    const HandMade run("x");
    Json json = parse_json(slurp(run.path + "/" + name), name);
    change(json);
    run.write(name, json.dump());
    return report({run.path});
  };
  check_one_error(with("result.json", [](Json& json) { json["version"] = 2; }), 65, "version: wrong value");
  check_one_error(with("result.json", [](Json& json) { json["format"] = "other"; }), 65, "eep-result");
  check_one_error(with("manifest.json", [](Json& json) { json["format"] = "other"; }), 65, "eep-manifest");
  const auto plan_of_tomorrow = [](Json& json) { json["version"] = 9; };
  check_one_error(with("plans/eep_merge.json", plan_of_tomorrow), 65, "eep_merge.json");
  const Outcome more = with("result.json", [](Json& json) {
    json["energy"] = 1;
    for (Json& method : json["methods"]) method["carbon"] = 2;
  });
  CHECK(more.code == 0);
  CHECK(more.err.find("result.json has what this version of eep does not know: energy.") !=
        std::string::npos);
  const size_t method = more.err.find("a method has what this version of eep does not know: carbon.");
  CHECK(method != std::string::npos);
  CHECK(more.err.find("carbon", method + 90) == std::string::npos);  // once
  const HandMade run("x");
  run.write("plan.json", "{\"format\": \"eep-pl");
  check_one_error(report({run.path}), 65, run.path + "/plan.json");
  run.write("plan.json", slurp(run.path + "/plans/eep_merge.json"));
  const std::string manifest = slurp(run.path + "/manifest.json");
  run.write("manifest.json", manifest.substr(0, 5));  // whose version is not known
  check_one_error(report({run.path}), 65, "eep run --resume " + run.path);
  run.write("manifest.json", manifest);
  run.write("config.resolved.yaml",
            "name: x\nmodel: {path: m}\ntask: {name: t}\nplan: {experts: 2}\nmore: 1\n");
  check_one_error(report({run.path}), 78, "eep x wrote the run");
}

TEST_CASE("report: numbers of any size are drawn or refused, never a crash") {
  for (const char* number : {"1e300", "-1e300", "1e15", "0", "-0.0", "1e-300", "9223372036854775808", "null",
                             "\"1\"", "[]", "true"}) {
    const HandMade run("x");
    std::string archive = slurp(run.path + "/archive.jsonl");
    archive.replace(archive.find("0.75"), 4, number);
    run.write("archive.jsonl", archive);
    const Outcome outcome = report({run.path});
    CAPTURE(number);
    CAPTURE(outcome.err);
    CHECK((outcome.code == 0 || outcome.code == 65));
    if (outcome.code == 0) checked_page(run.path);
  }
  // One that is refused is shown as it is written.
  const std::string digits = "123456789012345678901234567890";
  const HandMade run("x");
  const std::string archive = slurp(run.path + "/archive.jsonl");
  std::string changed = archive;
  run.write("archive.jsonl", changed.replace(changed.find("0.75"), 4, digits));
  check_one_error(report({run.path}), 65, "fitness: expected a number of at most 1e+15, got " + digits);
  run.write("archive.jsonl", archive);
  const std::string result = slurp(run.path + "/result.json");
  changed = result;
  run.write("result.json", changed.replace(changed.find("0.85]"), 4, digits));
  check_one_error(report({run.path}), 65, "ci95.high: expected a number of at most 1e+15, got " + digits);
  run.write("result.json", result);
  TempDir directory;
  const std::string published = directory.write(
      "p.json", R"({"format": "eep-published", "rows": [{"task": "x", "method": "y", "score": 12.50}]})");
  check_one_error(report({run.path, "--against", published}), 65, "expected a fraction in 0..1, got 12.50 (");
}

TEST_CASE("report: published scores and those of the harness stand beside the run's") {
  const HandMade run("x");
  TempDir directory;
  const std::string published =
      directory.write("p.json", R"({"format": "eep-published", "source": "<b>table 2</b>",
 "rows": [{"task": "x", "method": "theirs", "experts": 2, "score": 0.875, "ci95": [0.86, 0.89]},
          {"task": "other", "method": "theirs", "score": 0.5}]})");
  const std::string harness = directory.write("h.json", R"({"model_name": "hub/model",
 "results": {"x": {"alias": "x", "acc,none": 0.625, "acc_stderr,none": 0.01}}})");
  REQUIRE(report({run.path, "--against", published}).code == 0);
  Markup page = checked_page(run.path);
  check_shown(figures_of(run.path).at("against"), "score", page);
  CHECK(page.text.find("Tasks of the file that no run has: other.") != std::string::npos);
  REQUIRE(report({run.path, "--against", harness}).code == 0);
  page = checked_page(run.path);
  CHECK(page.text.find("hub/model (acc)") != std::string::npos);
  REQUIRE(report({run.path}).code == 0);  // the old figure's file does not stay
  CHECK(figures_of(run.path).count("against") == 0);
}

TEST_CASE("report: runs of several tasks have a picture each, and lines end where scores do not compare") {
  const HandMade made[] = {HandMade("letter"), HandMade("entail")};
  for (const HandMade& run : made) {  // the merge phase on fresh items
    std::string archive = slurp(run.path + "/archive.jsonl");
    for (const char* fresh : {"0.5,", "0.75,"}) {
      const size_t at = archive.find(std::string("\"fitness\":") + fresh);
      REQUIRE(at != std::string::npos);
      archive.insert(at, "\"shard\":128,");
    }
    run.write("archive.jsonl", archive);
  }
  REQUIRE(report({made[0].path, made[1].path}).code == 0);
  const std::string page = slurp(made[0].path + "/report.html");
  checked_page(made[0].path);
  size_t panels = 0;
  for (size_t at = 0; (at = page.find("<h4>", at)) != std::string::npos; ++at) ++panels;
  CHECK(panels == 4);  // two tasks: scores against size, and the best so far
  CHECK(page.find("<h4>entail</h4>") != std::string::npos);
  CHECK(page.find("the chosen plan, eep_merge: 75.0 % (0.75)") != std::string::npos);
  const Rows best = figures_of(made[0].path).at("best");
  for (size_t i = 1; i < best.size(); ++i) {
    CHECK(std::stod(best[i][column(best, "evaluation")]) <= 1);
    CHECK(std::stod(best[i][column(best, "best")]) <= 0.25);
  }
}

TEST_CASE("report: figures of probe prompts where a run holds them") {
  const HandMade made("plain");
  REQUIRE(report({made.path}).code == 0);
  const Rows rows = figures_of(made.path).at("generation");
  REQUIRE(rows.size() == 3);
  CHECK(rows[1][column(rows, "loop_rate")] == "0.25");
  CHECK(rows[1][column(rows, "distinct_4")] == "0.875");
  CHECK(rows[2][column(rows, "model")] == "plain full");
  CHECK(rows[2][column(rows, "distinct_4")].empty());
  check_shown(rows, "loop_rate", checked_page(made.path));
  made.write("probe.json", R"({"probes": 2, "models": [{"name": "x", "loops": 3, "distinct4": 1}]})");
  const Outcome wrong = report({made.path});
  CHECK(wrong.code == 65);
  CHECK(wrong.err.find("loops") != std::string::npos);
}
