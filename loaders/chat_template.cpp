#include "loaders/chat_template.h"

#include <algorithm>
#include <utility>

#include "loaders/file.h"

namespace eep {

namespace {

constexpr size_t kMaxTemplate = size_t{1} << 20;
constexpr size_t kMaxOutput = size_t{1} << 26;
constexpr int kMaxDepth = 32;

constexpr const char* kMistralV1 =
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) "
    "%}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif "
    "%}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif "
    "message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only "
    "user and assistant roles are supported!') }}{% endif %}{% endfor %}";

constexpr const char* kChatMl =
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + "
    "'<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% "
    "endif %}";

constexpr const char* kNone = "{% for message in messages %}{{ message['content'] }}{% endfor %}";

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ExitCode::kData, "chat template", what, "--template chatml, mistral-v1 or none");
}

enum class Part { kText, kExpression, kStatement };

struct Piece {
  Part part = Part::kText;
  std::string text;
};

std::string trimmed(std::string text, bool left, bool right) {
  const char* blanks = " \t\r\n";
  if (right) text.erase(text.find_last_not_of(blanks) + 1);
  if (left) text.erase(0, std::min(text.find_first_not_of(blanks), text.size()));
  return text;
}

// Text and tags, with the blanks around tags removed as trim_blocks and lstrip_blocks say.
std::vector<Piece> split(std::string text) {
  if (text.ends_with('\n')) text.pop_back();  // Jinja drops one
  std::vector<Piece> pieces;
  size_t at = 0;
  bool trim_next = false, drop_newline = false;
  while (at < text.size()) {
    size_t tag = at;
    while ((tag = text.find('{', tag)) != std::string::npos &&
           (tag + 1 == text.size() || std::string("{%#").find(text[tag + 1]) == std::string::npos)) {
      ++tag;
    }
    std::string literal = text.substr(at, tag == std::string::npos ? tag : tag - at);
    if (drop_newline && !literal.empty() && literal[0] == '\n') literal.erase(0, 1);
    if (trim_next) literal = trimmed(literal, true, false);
    if (tag == std::string::npos) {
      pieces.push_back({Part::kText, literal});
      break;
    }
    const char kind = text[tag + 1];
    const std::string close = kind == '{' ? "}}" : kind == '%' ? "%}" : "#}";
    size_t end = tag + 2;  // a closing sign inside a quoted text does not count
    for (char quote = 0; end < text.size(); ++end) {
      if (quote == 0 && text.compare(end, 2, close) == 0) break;
      if (kind == '#') continue;
      if (quote != 0 && text[end] == '\\') {
        ++end;
      } else if (quote != 0 ? text[end] == quote : text[end] == '\'' || text[end] == '"') {
        quote = quote != 0 ? '\0' : text[end];
      }
    }
    if (end >= text.size()) refuse("a tag without its end: " + printable(text.substr(tag)));
    std::string inside = text.substr(tag + 2, end - tag - 2);
    const bool dash_left = !inside.empty() && inside.front() == '-';
    const bool dash_right = inside.size() > 1 && inside.back() == '-';
    if (dash_left) {
      literal = trimmed(literal, false, true);
    } else if (kind != '{') {  // lstrip_blocks
      const size_t line = literal.find_last_not_of(" \t");
      const bool starts_line =
          line == std::string::npos ? pieces.empty() || drop_newline : literal[line] == '\n';
      if (starts_line) literal.erase(line == std::string::npos ? 0 : line + 1);
    }
    pieces.push_back({Part::kText, literal});
    inside = inside.substr(dash_left ? 1 : 0, inside.size() - (dash_left ? 1 : 0) - (dash_right ? 1 : 0));
    if (kind != '#') {
      pieces.push_back({kind == '{' ? Part::kExpression : Part::kStatement, trimmed(inside, true, true)});
    }
    trim_next = dash_right;
    drop_newline = kind != '{';
    at = end + 2;
  }
  return pieces;
}

bool is_name(const std::string& text) {
  return !text.empty() &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") ==
             std::string::npos;
}

// The first word of a statement, and what follows it.
std::pair<std::string, std::string> first_word(const std::string& text) {
  const size_t end = std::min(text.find_first_of(" \t\r\n("), text.size());
  return {text.substr(0, end), trimmed(text.substr(end), true, false)};
}

class Renderer {
 public:
  Renderer(const ChatTemplate& chat, const std::vector<ChatMessage>& messages) : pieces_(split(chat.text)) {
    Json list = Json::array();
    for (const ChatMessage& message : messages) {
      list.push_back({{"role", message.role}, {"content", message.content}});
    }
    scopes_.set("messages", std::move(list));
    if (!chat.bos_token.empty()) scopes_.set("bos_token", chat.bos_token);
    if (!chat.eos_token.empty()) scopes_.set("eos_token", chat.eos_token);
    scopes_.set("tools", nullptr);  // none, as transformers passes them
    scopes_.set("documents", nullptr);
    scopes_.set("add_generation_prompt", true);
    for (const auto& [name, value] : chat.variables) scopes_.set(name, value);
  }

  std::string render() {
    block(0, pieces_.size(), 0);
    return std::move(out_);
  }

 private:
  Json evaluate(const std::string& text) { return evaluate_chat_expression(text, scopes_, budget_); }

  // Pieces begin..end.
  void block(size_t begin, size_t end, int depth) {
    if (depth > kMaxDepth) refuse("blocks nested too deep");
    for (size_t at = begin; at < end; ++at) {
      budget_.take(1);
      const Piece& piece = pieces_[at];
      if (piece.part == Part::kText) {
        write(piece.text);
      } else if (piece.part == Part::kExpression) {
        write(chat_text(evaluate(piece.text)));
      } else {
        at = statement(at, end, depth);
      }
    }
  }

  void write(const std::string& text) {
    if (out_.size() + text.size() > kMaxOutput) refuse("the prompt grows too long");
    budget_.take(static_cast<int64_t>(text.size() / 64));
    out_ += text;
  }

  // Runs the statement at `at` and gives the place of its last piece.
  size_t statement(size_t at, size_t end, int depth) {
    const auto [word, rest] = first_word(pieces_[at].text);
    if (word == "set") {
      assign(rest);
      return at;
    }
    if (word != "if" && word != "for") refuse("statement not known: " + printable(word));
    // The branches of this block: each begins after a tag, the last ends at endif or endfor.
    std::vector<size_t> tags{at};
    int nested = 0;
    for (size_t i = at + 1; i < end; ++i) {
      if (pieces_[i].part != Part::kStatement) continue;
      const std::string inner = first_word(pieces_[i].text).first;
      if (inner == "if" || inner == "for") ++nested;
      if (nested == 0 && (inner == "elif" || inner == "else")) tags.push_back(i);
      if (inner != "endif" && inner != "endfor") continue;
      if (nested-- > 0) continue;
      if (inner != "end" + word) refuse("expected end" + word + ", got " + inner);
      tags.push_back(i);
      word == "if" ? branch(tags, depth) : loop(rest, tags, depth);
      return i;
    }
    refuse("a block without its end: " + printable(pieces_[at].text));
  }

  void assign(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == std::string::npos) refuse("set without a value");
    const std::string target = trimmed(text.substr(0, equals), true, true);
    Json value = evaluate(text.substr(equals + 1));
    const size_t dot = target.find('.');
    if (!is_name(target.substr(0, dot))) refuse("set of something else than a name: " + printable(target));
    if (dot == std::string::npos) return scopes_.set(target, std::move(value));
    scopes_.set_member(target.substr(0, dot), target.substr(dot + 1), std::move(value));
  }

  void branch(const std::vector<size_t>& tags, int depth) {
    for (size_t i = 0; i + 1 < tags.size(); ++i) {
      const auto [word, condition] = first_word(pieces_[tags[i]].text);
      if (word != "else" && !chat_truth(evaluate(condition))) continue;
      return block(tags[i] + 1, tags[i + 1], depth + 1);
    }
  }

  void loop(const std::string& head, const std::vector<size_t>& tags, int depth) {
    const size_t in = head.find(" in ");
    if (in == std::string::npos || tags.size() != 2 || !is_name(head.substr(0, in)) ||
        head.find(" if ") != std::string::npos) {
      refuse("loop not understood: " + printable(head));
    }
    const std::string variable = trimmed(head.substr(0, in), true, true);
    const Json list = evaluate(head.substr(in + 4));
    if (!list.is_array()) refuse("loop over something that is no list: " + printable(head));
    for (size_t i = 0; i < list.size(); ++i) {
      scopes_.push();
      scopes_.set(variable, list[i]);
      Json place{{"index0", i},
                 {"index", i + 1},
                 {"revindex0", list.size() - i - 1},
                 {"revindex", list.size() - i},
                 {"first", i == 0},
                 {"last", i + 1 == list.size()},
                 {"length", list.size()},
                 {"depth0", 0},
                 {"depth", 1}};
      if (i > 0) place["previtem"] = list[i - 1];
      if (i + 1 < list.size()) place["nextitem"] = list[i + 1];
      budget_.take(static_cast<int64_t>(place.size()));
      scopes_.set("loop", std::move(place));
      block(tags[0] + 1, tags[1], depth + 1);
      scopes_.pop();
    }
  }

  std::vector<Piece> pieces_;
  ChatScopes scopes_;
  ChatBudget budget_;
  std::string out_;
};

// A special token of tokenizer_config.json: a text, or an object with its content.
std::string special_token(const JsonView& root, const char* key) {
  if (!root.has_value(key)) return {};
  const JsonView token = root.at(key);
  return token.is_object() ? token.at("content").as_string() : token.as_string();
}

ChatTemplate read_special_tokens(const std::string& directory) {
  ChatTemplate chat;
  const std::string config = join_path(directory, "tokenizer_config.json");
  if (!is_there(config)) return chat;
  const JsonDocument document = JsonDocument::read(config);
  const JsonView root = document.root().as_object();
  chat.bos_token = special_token(root, "bos_token");
  chat.eos_token = special_token(root, "eos_token");
  for (const char* key : {"unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    const std::string token = special_token(root, key);
    if (!token.empty()) chat.variables[key] = token;
  }
  if (!root.has_value("chat_template")) return chat;
  chat.origin = config;
  const JsonView stored = root.at("chat_template");
  if (!stored.is_array()) {
    chat.text = stored.as_string();
    return chat;
  }
  for (size_t i = 0; i < stored.size(); ++i) {  // [{name, template}]
    const JsonView named = stored.at(i).as_object();
    if (named.at("name").as_string() == "default") chat.text = named.at("template").as_string();
  }
  return chat;
}

}  // namespace

ChatTemplate find_chat_template(const std::string& directory) {
  ChatTemplate chat = read_special_tokens(directory);
  const std::string own = join_path(directory, "chat_template.jinja");
  if (is_there(own)) {
    chat.text = read_file(own, kMaxTemplate);
    chat.origin = own;
  }
  if (chat.text.empty()) {
    throw Error(ExitCode::kUsage, "--chat", "no chat template in the files of " + directory,
                "--template chatml, mistral-v1 or none");
  }
  return chat;
}

ChatTemplate built_in_chat_template(const std::string& name, const std::string& directory) {
  ChatTemplate chat = read_special_tokens(directory);
  chat.origin = name;
  if (name == "mistral-v1") {
    chat.text = kMistralV1;
  } else if (name == "chatml") {
    chat.text = kChatMl;
  } else if (name == "none") {
    chat.text = kNone;
  } else {
    throw Error(ExitCode::kUsage, "--template",
                "no such template (expected mistral-v1, chatml or none, got " + printable(name) + ")");
  }
  if (name == "mistral-v1" && chat.bos_token.empty()) chat.bos_token = "<s>";
  if (name == "mistral-v1" && chat.eos_token.empty()) chat.eos_token = "</s>";
  return chat;
}

void set_chat_variable(const std::string& assignment, ChatTemplate* chat) {
  const size_t equals = assignment.find('=');
  const std::string name = assignment.substr(0, equals);
  if (equals == std::string::npos || !is_name(name) || (name[0] >= '0' && name[0] <= '9') ||
      name == "messages") {
    throw Error(ExitCode::kUsage, "--chat-set",
                "not a variable and its value (expected NAME=VALUE, got " + printable(assignment) + ")");
  }
  const std::string value = assignment.substr(equals + 1);
  Json& variable = chat->variables[name];
  if (value == "true" || value == "false") {
    variable = value == "true";
    return;
  }
  const Json number = Json::parse(value, nullptr, /*allow_exceptions=*/false);
  variable = number.is_number() && number.dump() == value ? number : Json(value);
}

std::string render_chat(const ChatTemplate& chat, const std::vector<ChatMessage>& messages) {
  if (chat.text.size() > kMaxTemplate) refuse("too long");
  return Renderer(chat, messages).render();
}

}  // namespace eep
