// Text for calibration: every shape of a row, what is counted, what is refused with its line; files read line
// by line, whatever their size.
#include <doctest/doctest.h>

#include "loaders/tasks/calibration_text.h"
#include "tests/loaders/scratch.h"

using namespace eep;

namespace {

std::vector<std::string> texts_of(const std::string& path, CalibrationTextOptions options = {},
                                  CalibrationTextCounts* counts = nullptr) {
  CalibrationText text(path, std::move(options));
  std::vector<std::string> texts;
  while (const auto document = text.next()) texts.push_back(document->text);
  if (counts != nullptr) *counts = text.counts();
  return texts;
}

ChatTemplate roles() {
  ChatTemplate chat;
  chat.text =
      "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
      "{% if add_generation_prompt %}[assistant]{% endif %}";
  chat.bos_token = "<s>";
  return chat;
}

const std::string kFourShapes =
    "{\"text\": \"plain\"}\n"
    "{\"prompt\": \"two and two\", \"completion\": \"four\"}\n"
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": "
    "[{\"type\": \"text\", \"text\": \"ho\"}]}]}\n"
    "{\"conversations\": [{\"from\": \"human\", \"value\": \"who\"}, {\"from\": \"gpt\", \"value\": "
    "\"me\"}]}\n"
    "{\"text\": \"\"}\n"
    "\n"
    "{\"messages\": []}\n";

}  // namespace

TEST_CASE("calibration text: the four shapes, with and without a template, and rows without text") {
  const Scratch scratch;
  const std::string file = scratch.write("rows.jsonl", kFourShapes);
  CalibrationTextCounts counts;
  CHECK(texts_of(file, {}, &counts) ==
        std::vector<std::string>{"plain", "two and two four", "hi\nho\n", "who\nme\n"});
  CHECK(counts.used == 4);
  CHECK(counts.skipped == 3);
  CHECK(counts.of_shape == std::array<int64_t, 5>{0, 1, 1, 1, 1});
  CalibrationTextOptions options;
  options.chat = roles();
  CHECK(texts_of(file, options) == std::vector<std::string>{"plain", "two and two four",
                                                            "<s>[user]hi[assistant]ho",
                                                            "<s>[user]who[assistant]me"});
  options.render_pairs = true;
  CHECK(texts_of(file, options)[1] == "<s>[user]two and two[assistant]four");
  options.limit = 2;
  CHECK(texts_of(file, options, &counts).size() == 2);
  CHECK(counts.used == 2);
}

TEST_CASE("calibration text: a template writes the special tokens, plain rows leave them to the tokenizer") {
  const Scratch scratch;
  CalibrationTextOptions options;
  options.chat = roles();
  CalibrationText text(scratch.write("rows.jsonl", kFourShapes), options);
  CHECK(text.next()->add_special);
  CHECK(text.next()->add_special);
  const auto rendered = text.next();
  CHECK(!rendered->add_special);
  CHECK(rendered->line == 3);
}

TEST_CASE("calibration text: a row that is none is refused with its line and what would help") {
  const Scratch scratch;
  const auto refused = [&](const std::string& row, const std::string& what) {
    CAPTURE(row);
    const std::string file = scratch.write("bad.jsonl", "{\"text\": \"good\"}\n\n" + row + "\n");
    check_error(ExitCode::kData, "bad.jsonl:3", [&] { texts_of(file); });
    check_error(ExitCode::kData, what, [&] { texts_of(file); });
  };
  refused(R"({"question": "q", "answer": "a"})",
          "(expected text, prompt and completion, messages or conversations, got question, answer)");
  refused("{}", "got no keys");
  refused(R"({"prompt": "alone"})", "got prompt");
  refused(R"([{"text": "a"}])", "a JSON array");
  refused(R"("text")", "not an object");
  refused(R"({"text": 7})", "text: not a text (got number)");
  refused(R"({"text": "a")", "malformed JSON");
  refused(R"({"messages": "hi"})", "messages: not a list of messages (got string)");
  refused(R"({"messages": ["hi"]})", "a message is not an object");
  refused(R"({"messages": [{"content": "hi"}]})", "neither role nor from");
  refused(R"({"messages": [{"role": "user"}]})", "neither content nor value");
  refused(R"({"messages": [{"role": "user", "content": [{"type": "image"}]}]})", "not text");
  refused(R"({"messages": [{"role": "user", "content": {"a": 1}}]})", "not a text (got object)");
}

TEST_CASE("calibration text: a field of one's own") {
  const Scratch scratch;
  const std::string file = scratch.write(
      "rows.jsonl",
      "{\"story\": \"once\", \"text\": \"no\"}\n{\"story\": [{\"role\": \"user\", \"content\": \"hi\"}]}\n"
      "{\"story\": null}\n{\"text\": \"x\"}\n");
  CalibrationTextOptions options;
  options.field = "story";
  options.limit = 2;
  CHECK(texts_of(file, options) == std::vector<std::string>{"once", "hi\n"});
  options.limit = 0;
  check_error(ExitCode::kData, "rows.jsonl:4: no field story", [&] { texts_of(file, options); });
  check_error(ExitCode::kData, "plain text has no fields",
              [&] { texts_of(scratch.write("plain.txt", "once\n"), options); });
}

TEST_CASE("calibration text: plain text comes in pieces that end at a line's end, nothing lost") {
  const Scratch scratch;
  std::string text;
  for (int line = 0; line < 30000; ++line) text += "line " + std::to_string(line) + " of a long text\n";
  std::string together;
  const std::vector<std::string> pieces = texts_of(scratch.write("long.txt", text));
  CHECK(pieces.size() > 2);
  for (const std::string& piece : pieces) {
    CHECK(piece.ends_with('\n'));
    together += piece;
  }
  CHECK(together == text);
  CHECK(texts_of(scratch.write("blank.txt", " \n\n\t\n")).empty());
  CHECK(texts_of(scratch.write("empty.txt", "")).empty());
  // An object in the first line makes rows of a file of any name; a brace alone does not.
  CHECK(texts_of(scratch.write("rows.data", "{\"text\": \"a\"}\n")) == std::vector<std::string>{"a"});
  CHECK(texts_of(scratch.write("code.c", "{ return 0; }\n")) == std::vector<std::string>{"{ return 0; }\n"});
  check_error(ExitCode::kData, "binary:1: a NUL byte",
              [&] { texts_of(scratch.write("binary", std::string("a\0b\n", 4))); });
  check_error(ExitCode::kNoInput, "nowhere", [] { texts_of("/nowhere/text.jsonl"); });
}

TEST_CASE("line reader: ends of lines, a byte order mark, lines across the buffer's end") {
  const Scratch scratch;
  const auto lines_of = [&](const std::string& bytes) {
    LineReader reader(scratch.write("lines", bytes));
    std::vector<std::string> lines;
    for (std::string line; reader.next(line);) {
      lines.push_back(line);
      CHECK(reader.number() == static_cast<int64_t>(lines.size()));
    }
    return lines;
  };
  CHECK(lines_of("").empty());
  CHECK(lines_of("a") == std::vector<std::string>{"a"});
  CHECK(lines_of("a\r\n\nb\n") == std::vector<std::string>{"a", "", "b"});
  CHECK(lines_of("\xEF\xBB\xBF"
                 "a\n") == std::vector<std::string>{"a"});
  const std::string wide(700000, 'x');
  CHECK(lines_of("a\n" + wide + "\n" + wide) == std::vector<std::string>{"a", wide, wide});
}
