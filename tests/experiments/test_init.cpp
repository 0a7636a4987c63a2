// eep init: what it writes, a run accepts; what is there it leaves alone.
#include <doctest/doctest.h>

#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("init: the file that it writes is one that a run accepts") {
  TempDir directory;
  for (const char* task : {"sort", "entail"}) {
    const std::string file = directory(std::string(task) + ".yaml");
    const Outcome made = eep::test::eep({"init", kDemoModel, "--task", task, "--out", file});
    CAPTURE(made.err);
    REQUIRE(made.code == 0);
    CHECK(made.out == file + "\n");
    const Outcome dry = eep::test::eep({"run", file, "--dry-run", "--set", "task.train.limit=256"});
    CAPTURE(dry.err);
    CHECK(dry.code == 0);
    CHECK(slurp(file).find("# stay in every layer, of 8") != std::string::npos);
  }
  const Outcome shown = eep::test::eep({"init", kDemoModel, "--task", "sort"});
  CHECK(shown.code == 0);
  const TempDir other;
  CHECK(eep::test::eep({"init", kDemoModel, "--task", "sort", "--out", other("other.yaml")}).code == 0);
  CHECK(shown.out == slurp(other("other.yaml")));
  // sort.yaml would be found in place of the task of its name, which it therefore calls by its path.
  CHECK(slurp(directory("sort.yaml")).find("/tasks/sort.yaml\"") != std::string::npos);
}

TEST_CASE("init: a file that is there stays, what cannot be searched on is refused") {
  TempDir directory;
  const std::string file = directory.write("mine.yaml", "mine\n");
  const Outcome there = eep::test::eep({"init", kDemoModel, "--task", "sort", "--out", file});
  CHECK(there.code == 74);
  CHECK(there.err.find("is there already") != std::string::npos);
  CHECK(slurp(file) == "mine\n");
  CHECK(eep::test::eep({"init", kDemoModel, "--task", "sort", "--out", directory("none") + "/e.yaml"}).code ==
        74);
  CHECK(eep::test::eep({"init", directory("none"), "--task", "sort"}).code == 66);
  CHECK(eep::test::eep({"init", kDemoModel, "--task", "no-such-task"}).code == 66);
  CHECK(eep::test::eep({"init", kDemoModel}).code == 2);
  directory.write("t.yaml",
                  "name: own\nkind: multiple_choice\ndata: {train: t.jsonl}\nprompt: \"{q}\"\n"
                  "choices: [\" no\", \" yes\"]\ntarget: label\nmetric: acc\n");
  directory.write("t.jsonl", "{\"q\": \"a\", \"label\": \"no\"}\n");
  const Outcome untested = eep::test::eep({"init", kDemoModel, "--task", directory("t.yaml")});
  CHECK(untested.code == 78);
  CHECK(untested.err.find("no test split") != std::string::npos);
}
