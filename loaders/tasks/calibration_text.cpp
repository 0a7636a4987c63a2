#include "loaders/tasks/calibration_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "loaders/formats/file.h"

namespace eep {

namespace {

// Bytes of a piece of plain text: some thousand tokens.
constexpr size_t kPiece = size_t{1} << 18;
constexpr size_t kMostKeys = 8;  // of a row that is shown

bool is_blank(std::string_view text) { return text.find_first_not_of(" \t\r\n\v\f") == std::string::npos; }

bool has(const Json& row, const std::string& key) { return row.contains(key) && !row.at(key).is_null(); }

bool ends_with(std::string_view name, std::initializer_list<std::string_view> endings) {
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return name.ends_with(ending); });
}

// By its name, else by its first line: an object.
bool is_json_lines(const std::string& path, std::string_view begin) {
  if (ends_with(path, {".jsonl", ".ndjson", ".json"})) return true;
  const size_t brace = begin.find_first_not_of(" \t\r\n\xEF\xBB\xBF");
  if (brace == std::string::npos || begin[brace] != '{') return false;
  const std::string_view line = begin.substr(brace, begin.find('\n', brace) - brace);
  return Json::accept(line) || line.size() + brace == begin.size();  // one that goes on past what was read
}

// Other programs' names of who speaks.
std::string role_of(const std::string& speaker) {
  static constexpr std::pair<std::string_view, std::string_view> kRoles[] = {
      {"human", "user"},      {"gpt", "assistant"}, {"chatgpt", "assistant"}, {"bot", "assistant"},
      {"model", "assistant"}, {"function", "tool"}, {"observation", "tool"},  {"function_response", "tool"}};
  for (const auto& [theirs, ours] : kRoles) {
    if (speaker == theirs) return std::string(ours);
  }
  return speaker;
}

// A blank between the two unless there is one.
std::string joined(const std::string& prompt, const std::string& completion) {
  const bool apart = prompt.empty() || completion.empty() || is_blank({&prompt.back(), 1}) ||
                     is_blank({&completion.front(), 1});
  return prompt + (apart ? "" : " ") + completion;
}

}  // namespace

CalibrationText::CalibrationText(std::string path, CalibrationTextOptions options)
    : path_(std::move(path)), options_(std::move(options)), lines_(path_) {
  if (const ForeignFile foreign = foreign_file(lines_.begin(size_t{1} << 10)); !foreign.what.empty())
    throw Error(ExitCode::kData, path_, foreign.what, foreign.hint);
  rows_ = is_json_lines(path_, lines_.begin(size_t{1} << 16));
  if (!rows_ && !options_.field.empty()) {
    throw Error(ExitCode::kData, path_, "plain text has no fields (expected one JSON object a line)");
  }
}

void CalibrationText::fail(const std::string& what, const std::string& hint) const {
  throw Error(ExitCode::kData, fmt::format("{}:{}", path_, lines_.number()), what, hint);
}

std::optional<CalibrationDocument> CalibrationText::next() {
  if (options_.limit > 0 && counts_.used >= options_.limit) return std::nullopt;
  return rows_ ? next_row() : next_piece();
}

std::optional<CalibrationDocument> CalibrationText::next_row() {
  for (std::string line; lines_.next(line);) {
    if (is_blank(line)) {
      ++counts_.skipped;
      continue;
    }
    const Json row = parse_json(line, path_, lines_.number());
    if (!row.is_object()) {
      fail(row.is_array() ? "a JSON array (expected JSON Lines: one object a line)"
                          : "not an object (expected JSON Lines: one object a line)");
    }
    CalibrationDocument document;
    document.line = lines_.number();
    const TextShape shape = read_row(row, &document);
    if (is_blank(document.text)) {
      ++counts_.skipped;
      continue;
    }
    ++counts_.used;
    ++counts_.of_shape[static_cast<size_t>(shape)];
    return document;
  }
  return std::nullopt;
}

// Lines until there are enough of them.
std::optional<CalibrationDocument> CalibrationText::next_piece() {
  CalibrationDocument document;
  document.line = std::max<int64_t>(lines_.number(), 1);
  for (std::string line; document.text.size() < kPiece && lines_.next(line);) {
    if (line.find('\0') != std::string::npos) fail("a NUL byte (expected text or JSON Lines)");
    document.text += line + "\n";
  }
  if (document.text.empty()) return std::nullopt;
  if (is_blank(document.text)) return next_piece();
  ++counts_.used;
  ++counts_.of_shape[static_cast<size_t>(TextShape::kPlain)];
  return document;
}

TextShape CalibrationText::read_row(const Json& row, CalibrationDocument* document) const {
  const auto text_of = [&](const std::string& key) {
    const Json& value = row.at(key);
    if (!value.is_string()) fail(fmt::format("{}: not a text (got {})", key, value.type_name()));
    return value.get<std::string>();
  };
  std::vector<ChatMessage> messages;
  const auto turns_of = [&](const std::string& key) {
    const Json& value = row.at(key);
    if (!value.is_array()) fail(fmt::format("{}: not a list of messages (got {})", key, value.type_name()));
    for (const Json& turn : value) append_message(turn, &messages);
  };
  if (!options_.field.empty()) {
    const std::string& field = options_.field;
    if (!row.contains(field)) fail(fmt::format("no field {}", printable(field)), "--field names another");
    if (row.at(field).is_null()) return TextShape::kText;
    if (row.at(field).is_array()) {
      turns_of(field);
      document->text = rendered(messages, row, document);
      return TextShape::kMessages;
    }
    document->text = text_of(field);
    return TextShape::kText;
  }
  for (const TextShape shape : {TextShape::kConversations, TextShape::kMessages}) {
    const std::string key(kTextShapeNames[static_cast<size_t>(shape)]);
    if (!has(row, key)) continue;
    turns_of(key);
    document->text = rendered(messages, row, document);
    return shape;
  }
  if (has(row, "prompt") && has(row, "completion")) {
    if (row.at("prompt").is_array() || row.at("completion").is_array()) {
      turns_of("prompt");
      turns_of("completion");
    } else if (options_.render_pairs) {
      messages = {{"user", text_of("prompt")}, {"assistant", text_of("completion")}};
    }
    document->text = messages.empty() ? joined(text_of("prompt"), text_of("completion"))
                                      : rendered(messages, row, document);
    return TextShape::kPromptCompletion;
  }
  if (row.contains("text")) {
    if (!row.at("text").is_null()) document->text = text_of("text");
    return TextShape::kText;
  }
  // A row whose text is null has none.
  for (const char* key : {"conversations", "messages"}) {
    if (row.contains(key)) return TextShape::kMessages;
  }
  if (row.contains("prompt") && row.contains("completion")) return TextShape::kPromptCompletion;
  std::vector<std::string> keys;
  for (const auto& [key, value] : row.items()) {
    if (keys.size() < kMostKeys) keys.push_back(printable(key));
  }
  fail("a row without text that is known" +
           expected_got("text, prompt and completion, messages or conversations",
                        keys.empty() ? "no keys" : fmt::format("{}", fmt::join(keys, ", "))),
       "--field NAME takes the text, or the messages, from a field");
}

void CalibrationText::append_message(const Json& turn, std::vector<ChatMessage>* messages) const {
  if (!turn.is_object()) fail(fmt::format("a message is not an object (got {})", turn.type_name()));
  const auto key_of = [&](const char* first, const char* second) -> const Json& {
    const char* key = turn.contains(first) ? first : second;
    if (!turn.contains(key)) fail(fmt::format("a message has neither {} nor {}", first, second));
    return turn.at(key);
  };
  const Json &speaker = key_of("role", "from"), &content = key_of("content", "value");
  if (!speaker.is_string()) fail("the role of a message is not a text");
  ChatMessage message;
  message.role = role_of(speaker.get<std::string>());
  if (content.is_array()) {
    for (const Json& part : content) {
      const bool text = part.is_object() && part.value("type", "text") == "text" && part.contains("text") &&
                        part.at("text").is_string();
      if (!text) fail("a part of a message is not text");
      message.content += part.at("text").get<std::string>();
    }
  } else if (content.is_string()) {
    message.content = content.get<std::string>();
  } else if (!content.is_null()) {
    fail(fmt::format("the content of a message is not a text (got {})", content.type_name()));
  }
  // What a template may ask for besides: tool_calls, reasoning_content, name, ...
  for (const auto& [key, value] : turn.items()) {
    if (key != "role" && key != "from" && key != "content" && key != "value") message.fields[key] = value;
  }
  messages->push_back(std::move(message));
}

std::string CalibrationText::rendered(const std::vector<ChatMessage>& messages, const Json& row,
                                      CalibrationDocument* document) const {
  const auto says = [](const ChatMessage& message) {
    return !is_blank(message.content) || message.fields.is_object();
  };
  if (std::none_of(messages.begin(), messages.end(), says)) return {};
  if (options_.chat) {
    document->add_special = false;
    ChatTemplate chat = *options_.chat;
    if (has(row, "tools")) chat.variables["tools"] = row.at("tools");
    try {
      return render_chat(chat, messages, /*generation_prompt=*/false);
    } catch (const Error& error) {
      fail(error.what(), "--template off, chatml or mistral-v1");
    }
  }
  std::string text;
  for (const ChatMessage& message : messages) text += message.content + "\n";
  return text;
}

std::vector<std::vector<int32_t>> token_windows(const CalibrationDocument& document,
                                                const Tokenizer& tokenizer, int64_t vocab_size,
                                                int64_t window, const std::string& where) {
  const std::vector<int32_t> tokens = tokenizer.encode(document.text, document.add_special);
  for (const int32_t token : tokens) {
    if (token < vocab_size) continue;
    throw Error(ExitCode::kData, fmt::format("{}:{}", where, document.line),
                "the tokenizer knows a token that the model does not" +
                    expected_got(fmt::format("0..{}", vocab_size - 1), token));
  }
  std::vector<std::vector<int32_t>> windows;
  for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(window)) {
    const size_t end = std::min(tokens.size(), at + static_cast<size_t>(window));
    windows.emplace_back(tokens.begin() + static_cast<int64_t>(at),
                         tokens.begin() + static_cast<int64_t>(end));
  }
  return windows;
}

}  // namespace eep
