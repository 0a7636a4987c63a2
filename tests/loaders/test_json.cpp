// Strict JSON, positions of errors, and files that are written whole or not at all.
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <csignal>
#include <random>

#include "loaders/formats/json.h"
#include "tests/loaders/scratch.h"

namespace eep {
namespace {

void refuse(const std::string& text, const std::string& part) {
  INFO(text);
  check_error(ExitCode::kData, part, [&] { parse_json(text, "f.json"); });
}

}  // namespace

TEST_CASE("json: values arrive as written, members in order") {
  const Json json =
      parse_json(R"({"z": [1, -2, 3.5, "a\u00e9", null, true], "a": {"b": 18446744073709551615}})", "f");
  CHECK(json.dump() == R"({"z":[1,-2,3.5,"aé",null,true],"a":{"b":18446744073709551615}})");
  CHECK(parse_json(" 7 ", "f") == 7);
  CHECK(parse_json("\xEF\xBB\xBF[]", "f").is_array());
}

TEST_CASE("json: what is not strict JSON is refused where it stands") {
  refuse("", "f.json:1:1: malformed JSON");
  refuse("{\"a\": 1,\n \"b\": 2,\n \"a\": 3}", "f.json:3:4: duplicate key \"a\"");
  refuse("{\"x\": {\"a\": 1, \"\\u0061\": 2}}", "duplicate key \"a\"");
  refuse("[1, 2] 3", "f.json:1:8: malformed JSON");
  refuse("[1,\n 2,\n]", "f.json:3:1: malformed JSON");
  refuse("{\"a\": NaN}", "f.json:1:7: malformed JSON");
  refuse("[1e999]", "malformed JSON");
  refuse("[\"\xff\"]", "malformed JSON");
  refuse("[\"\xed\xa0\x80\"]", "malformed JSON");
  refuse("[\"a\nb\"]", "malformed JSON");
  refuse(std::string("[1]\0[2]", 7), "f.json:1:4: NUL byte");
  refuse("// no\n[1]", "malformed JSON");
  refuse(std::string(1000000, '['), "nested too deeply");
  refuse(std::string(64, '[') + "{", "nested too deeply");
  CHECK_NOTHROW(parse_json(std::string(kMaxJsonDepth, '[') + std::string(kMaxJsonDepth, ']'), "f"));
  check_error(ExitCode::kData, "data.jsonl:12:2:", [] { parse_json("[}", "data.jsonl", 12); });
}

TEST_CASE("json: large objects take linear time") {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += "\"key" + std::to_string(i) + "\":" + std::to_string(i) + ",";
  text.back() = '}';
  CHECK(parse_json(text, "f").size() == 200000);
}

TEST_CASE("json: views name the value, its place, what was expected and what is there") {
  const JsonDocument document(
      "{\"n\": 5, \"s\": \"x\",\n \"list\": [1, {\"deep\": true}, \"a,]}\\\"\", 2.5]}", "f.json");
  const JsonView root = document.root();
  CHECK(root.at("n").as_int(0, 10) == 5);
  CHECK(root.at("list").at(1).at("deep").as_bool());
  CHECK(root.int_or("missing", 7, 0, 9) == 7);
  CHECK(root.at("list").at(3).path() == "list[3]");
  const auto refuse_view = [](const std::string& part, auto action) {
    check_error(ExitCode::kData, part, action);
  };
  refuse_view("f.json:1:7: n: wrong value (expected an integer from 0 to 4, got 5)",
              [&] { root.at("n").as_int(0, 4); });
  refuse_view("f.json:2:23: list[1].deep: wrong value (expected a string, got true)",
              [&] { root.at("list").at(1).at("deep").as_string(); });
  refuse_view("f.json:2:40: list[3]: wrong value (expected an integer from 0 to 9, got 2.5)",
              [&] { root.at("list").at(3).as_int(0, 9); });
  refuse_view("f.json:1:1: top level: missing key \"q\"", [&] { root.at("q"); });
  refuse_view("f.json:2:10: list: wrong value (expected an object, got an array of 4)",
              [&] { root.at("list").as_object(); });
  refuse_view("f.json:1:15: s: unknown key", [&] { root.only_keys({"n", "list"}); });
  refuse_view("f:1:12: a.: wrong value (expected true or false, got \"x\")",
              [] { JsonDocument("{\"a\": {\"\": \"x\"}}", "f").root().at("a").at("").as_bool(); });
  CHECK(JsonDocument("[1e6, 4.0]", "f").root().at(0).as_int(0, 1000000) == 1000000);
  refuse_view("expected an integer",
              [] { JsonDocument("[18446744073709551615]", "f").root().at(0).as_int(0, INT64_MAX); });
  refuse_view("expected an integer", [] { JsonDocument("[1e300]", "f").root().at(0).as_int(0, INT64_MAX); });
}

TEST_CASE("json: damaged text is an error or a value, never a crash") {
  const std::string text = R"({"a": [1, 2.5e3, "x\u00e9\n", null], "b": {"c": false}})";
  for (size_t length = 0; length < text.size(); ++length) refuse(text.substr(0, length), "f.json:");
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = text;
    for (unsigned i = 0; i < 1 + random() % 3; ++i)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    try {
      parse_json(damaged, "f");
    } catch (const Error&) {
    }
  }
}

TEST_CASE("file: reading has reasons for failing") {
  const Scratch scratch;
  const std::string path = scratch.write("a", "hello");
  CHECK(read_file(path) == "hello");
  check_error(ExitCode::kData, "file too large (expected at most 4 bytes, got 5)",
              [&] { read_file(path, 4); });
  check_error(ExitCode::kNoInput, "cannot open: No such file", [&] { read_file(scratch.path("b")); });
  check_error(ExitCode::kNoInput, "cannot open: Not a directory", [&] { read_file(path + "/b"); });
  check_error(ExitCode::kIo, "cannot read: Is a directory", [&] { read_file(scratch.path()); });
  std::filesystem::create_symlink(scratch.path("loop"), scratch.path("loop"));
  check_error(ExitCode::kIo, "Too many levels of symbolic links", [&] { read_file(scratch.path("loop")); });
  check_error(ExitCode::kData, "file too large", [] { read_file("/dev/zero", 100000); });
}

TEST_CASE("file: a write replaces the file whole, or leaves it and no temporary") {
  const Scratch scratch;
  const std::string path = scratch.write("a", "old");
  write_file_atomic(path, "new text");
  CHECK(read_file(path) == "new text");
  std::filesystem::create_symlink(path, scratch.path("link"));
  write_file_atomic(scratch.path("link"), "through");
  CHECK(read_file(path) == "through");
  CHECK(std::filesystem::is_symlink(scratch.path("link")));
  CHECK(scratch.entries() == 2);

  check_error(ExitCode::kIo, "cannot write: Is a directory", [&] { write_file_atomic(scratch.path(), "x"); });
  check_error(ExitCode::kIo, "cannot write: No such file",
              [&] { write_file_atomic(scratch.path("no/file"), "x"); });
  check_error(ExitCode::kIo, "cannot write: No space left", [] { write_file_atomic("/dev/full", "x"); });

  {
    AtomicFile abandoned(path);
    abandoned.write("half", 4);
  }
  CHECK(read_file(path) == "through");

  // A file size limit stands for a full disk.
  rlimit before{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{1000, before.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
  check_error(ExitCode::kIo, "cannot write: File too large",
              [&] { write_file_atomic(path, std::string(5000, 'x')); });
  REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, handler);
  CHECK(read_file(path) == "through");
  CHECK(scratch.entries() == 2);
}

}  // namespace eep
