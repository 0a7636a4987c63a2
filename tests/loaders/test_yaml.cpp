// Strict YAML: positions, and everything that is refused.
#include <doctest/doctest.h>

#include "loaders/formats/yaml.h"

using namespace eep;

namespace {

std::string refusal(const std::string& text) {
  try {
    parse_yaml(text, "f.yaml");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kConfig);
    return error.what();
  }
  return "accepted";
}

}  // namespace

TEST_CASE("yaml: a document becomes a tree with positions") {
  const YamlValue root = parse_yaml("a: 1\nb:\n  - x\n  - 'no'\n  - {c: null}\n", "f.yaml");
  const YamlView view(root, "", ExitCode::kConfig);
  CHECK(view.at("a").as_int(0, 9) == 1);
  CHECK(view.at("b").sequence().size() == 3);
  CHECK(view.at("b").sequence()[1].value().quoted);
  CHECK(view.at("b").sequence()[1].value().where == "f.yaml:4:5");
  CHECK(!view.at("b").sequence()[2].has("c"));
  CHECK(parse_yaml("", "f").kind == YamlValue::Kind::kMap);
  CHECK(parse_yaml("# nothing\n", "f").kind == YamlValue::Kind::kMap);
}

TEST_CASE("yaml: what could mean two things is refused with its place") {
  CHECK(refusal("a: 1\nb: 2\na: 3\n") == "f.yaml:3:1: duplicate key a (first at f.yaml:1:1)");
  CHECK(refusal("a: &x [1]\n").find("anchors are not allowed") != std::string::npos);
  CHECK(refusal("a: &x [*x]\n").find("not allowed") != std::string::npos);
  CHECK(refusal("a: *x\n").find("f.yaml:1:") == 0);
  CHECK(refusal("a: !!int 3\n").find("tags are not allowed") != std::string::npos);
  CHECK(refusal("<<: {a: 1}\n").find("merge keys are not allowed") != std::string::npos);
  CHECK(refusal("a: 1\n---\nb: 2\n") == "f.yaml: several documents (expected 1)");
  CHECK(refusal("[a]: 1\n").find("a key must be a plain word") != std::string::npos);
  CHECK(refusal("a: [1, 2\n").find("f.yaml:") == 0);
  CHECK(refusal(std::string(1 << 21, 'a')).find("too large") != std::string::npos);
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "[";
  CHECK(refusal("a: " + deep) != "accepted");
  std::string many = "a: [";
  for (int i = 0; i < 30000; ++i) many += "1,";
  CHECK(refusal(many + "]").find("too many values") != std::string::npos);
  CHECK(refusal("\"a\\nb\": 1\n\"a\\nb\": 2\n") == "f.yaml:2:1: duplicate key a?b (first at f.yaml:1:1)");
  // The classic bomb: nine levels of nine aliases each.
  std::string bomb = "a0: &a0 [x]\n";
  for (int i = 1; i < 9; ++i) {
    bomb += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [*a" + std::to_string(i - 1) + "]\n";
  }
  CHECK(refusal(bomb).find("anchors are not allowed") != std::string::npos);
}

TEST_CASE("yaml: text holds no NUL") {
  const YamlValue root = parse_yaml("v: \"a\\0b\"", "f.yaml");
  std::string message;
  try {
    YamlView(root, "", ExitCode::kConfig).at("v").as_string();
  } catch (const Error& error) {
    message = error.what();
  }
  CHECK(message.find("f.yaml:1:4: v: wrong value (expected text without NUL characters, got ") == 0);
}

TEST_CASE("yaml: types are strict") {
  const auto value = [](const std::string& text) { return parse_yaml("v: " + text, "f.yaml"); };
  const auto integer = [&](const std::string& text) {
    const YamlValue root = value(text);
    return YamlView(root, "", ExitCode::kConfig).at("v").as_int(-100, 100);
  };
  CHECK(integer("17") == 17);
  CHECK(integer("-3") == -3);
  for (const char* bad :
       {"017", "0o17", "1_0", "1.0", "1e1", "0x10", "'7'", "101", "99999999999999999999", "-", "[1]", "~"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(integer(bad), Error);
  }
  const auto number = [&](const std::string& text) {
    const YamlValue root = value(text);
    return YamlView(root, "", ExitCode::kConfig).at("v").as_number(0, 10);
  };
  CHECK(number("0.065") == 0.065);
  CHECK(number("1e-3") == 0.001);
  CHECK(number("0e5") == 0);
  for (const char* bad : {"nan", ".inf", "11", "-1", "1.5x", "'1'", "0x1p3", "1e-400", "0.1e-999"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(number(bad), Error);
  }
  const auto flag = [&](const std::string& text) {
    const YamlValue root = value(text);
    return YamlView(root, "", ExitCode::kConfig).at("v").as_bool();
  };
  CHECK(flag("true"));
  CHECK(!flag("false"));
  for (const char* bad : {"yes", "no", "on", "1", "'true'"}) CHECK_THROWS_AS(flag(bad), Error);
}

TEST_CASE("yaml: unknown keys name the nearest known one") {
  const YamlValue root = parse_yaml("search:\n  populaton: 3\n", "f.yaml");
  const YamlView search = YamlView(root, "", ExitCode::kConfig).at("search");
  try {
    search.only_keys({"population", "fitness"});
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(std::string(error.what()) ==
          "f.yaml:2:3: unknown key search.populaton (expected one of population, fitness)");
    CHECK(error.hint() == "did you mean population?");
  }
}

TEST_CASE("yaml: overrides create and replace") {
  YamlValue root = parse_yaml("a: {b: 1}\n", "f.yaml");
  set_yaml(&root, "a.b", "2", "--set a.b");
  set_yaml(&root, "x.y.z", "[p, q]", "--set x.y.z");
  const YamlView view(root, "", ExitCode::kConfig);
  CHECK(view.at("a").at("b").as_int(0, 9) == 2);
  CHECK(view.at("x").at("y").at("z").sequence().size() == 2);
  CHECK_THROWS_AS(set_yaml(&root, "a.b.c", "1", "--set"), Error);
  set_yaml(&root, std::vector<std::string>{"sweep", "task.name"}, "[r, s]", "--set");
  CHECK(root.find("sweep")->find("task.name")->items.size() == 2);
  for (const char* bad : {"", ".", "a.", ".a", "a..b"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(set_yaml(&root, bad, "1", "--set"), Error);
  }
  CHECK_THROWS_AS(set_yaml(&root, "a", "1, 2", "--set"), Error);
  CHECK_THROWS_AS(set_yaml(&root, "a", "]", "--set"), Error);
}

TEST_CASE("yaml: written text reads back") {
  for (const std::string text :
       {"plain", "with \"quotes\" and \\", "line\nbreak\ttab", "\x01", " no ", "é"}) {
    CHECK(parse_yaml("v: " + yaml_string(text), "f").find("v")->scalar == text);
  }
}
