#include "loaders/text/chat_syntax.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

#include "loaders/text/chat_lexer.h"

namespace eep {

namespace {

constexpr int kMaxDepth = 240;   // of calls of this parser
constexpr int kMaxHeight = 120;  // of an expression's tree: chains grow to the left

using Kind = ChatTokenKind;

ChatNode constant(ChatValue value) { return {ChatOp::kConstant, {}, std::move(value), {}, {}, 1}; }

void measure(ChatNode* node) {
  for (const ChatNode& part : node->parts) node->height = std::max(node->height, part.height + 1);
  if (node->height > kMaxHeight) refuse_chat("nested too deep");
}

ChatNode node(ChatOp op, std::vector<ChatNode> parts, std::string text = {}) {
  ChatNode made{op, std::move(text), {}, std::move(parts), {}, 1};
  measure(&made);
  return made;
}

template <typename... Parts>
std::vector<ChatNode> list(Parts... parts) {
  std::vector<ChatNode> made;
  (made.push_back(std::move(parts)), ...);
  return made;
}

class Tokens {
 public:
  explicit Tokens(const std::string& text) : tokens_(chat_tokens(text)) {}

  const ChatToken& peek(size_t ahead = 0) const { return tokens_[std::min(at_ + ahead, tokens_.size() - 1)]; }
  ChatToken take() {
    const ChatToken token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  bool is(Kind kind, std::string_view text) const { return peek().kind == kind && peek().text == text; }
  bool sign(std::string_view text) const { return is(Kind::kSign, text); }
  bool word(std::string_view text) const { return is(Kind::kName, text); }
  bool accept(Kind kind, std::string_view text) {
    if (!is(kind, text)) return false;
    take();
    return true;
  }
  bool accept_sign(std::string_view text) { return accept(Kind::kSign, text); }
  bool accept_word(std::string_view text) { return accept(Kind::kName, text); }
  void expect_sign(std::string_view text) {
    if (!accept_sign(text)) unexpected(std::string(text));
  }
  void expect_end(Kind kind) {
    if (peek().kind != kind) unexpected("the end of the tag");
    take();
  }
  std::string name() {
    if (peek().kind != Kind::kName) unexpected("a name");
    return take().text;
  }
  [[noreturn]] void unexpected(const std::string& wanted) const {
    const ChatToken& token = peek();
    const bool shown = token.kind == Kind::kName || token.kind == Kind::kNumber ||
                       token.kind == Kind::kText || token.kind == Kind::kSign;
    refuse_chat("expected " + wanted + ", got " + (shown ? printable(token.text) : "the end of the tag"));
  }

 private:
  std::vector<ChatToken> tokens_;
  size_t at_ = 0;
};

// One level of nesting, for as long as it lives.
class Level {
 public:
  explicit Level(int* depth) : depth_(depth) {
    if (++*depth_ > kMaxDepth) refuse_chat("nested too deep");
  }
  ~Level() { --*depth_; }
  Level(const Level&) = delete;
  Level& operator=(const Level&) = delete;

 private:
  int* depth_;
};

// Jinja's order of binding: or, and, not, comparisons, + -, ~, * / // %, **, signs, members, filters.
class ExpressionParser {
 public:
  ExpressionParser(Tokens* tokens, int* depth) : tokens_(*tokens), depth_(depth) {}

  // Perhaps several with commas between them: a tuple.
  ChatNode tuple(bool conditions) {
    ChatNode first = conditions ? expression() : alternatives();
    if (!tokens_.sign(",")) return first;
    std::vector<ChatNode> parts = list(std::move(first));
    while (tokens_.accept_sign(",")) {
      if (ends()) break;
      parts.push_back(conditions ? expression() : alternatives());
    }
    return node(ChatOp::kTuple, std::move(parts));
  }

  ChatNode expression() {
    const Level level(depth_);
    ChatNode value = alternatives();
    while (tokens_.accept_word("if")) {
      ChatNode condition = alternatives();
      ChatNode other = constant({});
      if (tokens_.accept_word("else")) other = expression();
      value = node(ChatOp::kCondition, list(std::move(value), std::move(condition), std::move(other)));
    }
    return value;
  }

  // The filters behind `value`.
  ChatNode filters(ChatNode value) {
    while (tokens_.accept_sign("|")) value = filter(std::move(value));
    return value;
  }

 private:
  bool ends() const {
    const ChatToken& token = tokens_.peek();
    return token.kind == Kind::kPrintEnd || token.kind == Kind::kBlockEnd || tokens_.sign(")") ||
           tokens_.sign("=") || tokens_.word("in");
  }

  ChatNode alternatives() {
    ChatNode value = conjunction();
    while (tokens_.accept_word("or")) value = node(ChatOp::kOr, list(std::move(value), conjunction()));
    return value;
  }

  ChatNode conjunction() {
    ChatNode value = negation();
    while (tokens_.accept_word("and")) value = node(ChatOp::kAnd, list(std::move(value), negation()));
    return value;
  }

  ChatNode negation() {
    const Level level(depth_);
    if (tokens_.accept_word("not")) return node(ChatOp::kNot, list(negation()));
    return comparison();
  }

  ChatNode comparison() {
    ChatNode compared = node(ChatOp::kCompare, list(sum()));
    for (;;) {
      std::string sign;
      for (const char* known : {"==", "!=", "<", "<=", ">", ">="}) {
        if (tokens_.sign(known)) sign = known;
      }
      if (tokens_.word("in")) sign = "in";
      if (tokens_.word("not") && tokens_.peek(1).kind == Kind::kName && tokens_.peek(1).text == "in") {
        sign = "not in";
        tokens_.take();
      }
      if (sign.empty()) break;
      tokens_.take();
      compared.names.push_back(sign);
      compared.parts.push_back(sum());
    }
    if (compared.names.empty()) {
      ChatNode alone = std::move(compared.parts[0]);
      return alone;
    }
    measure(&compared);
    return compared;
  }

  // A chain of signs that bind alike, from the left.
  template <typename Next>
  ChatNode chain(std::initializer_list<const char*> signs, Next next) {
    ChatNode value = (this->*next)();
    for (;;) {
      const auto sign =
          std::find_if(signs.begin(), signs.end(), [&](const char* known) { return tokens_.sign(known); });
      if (sign == signs.end()) return value;
      tokens_.take();
      value = node(ChatOp::kBinary, list(std::move(value), (this->*next)()), *sign);
    }
  }
  ChatNode sum() { return chain({"+", "-"}, &ExpressionParser::joined); }
  ChatNode joined() { return chain({"~"}, &ExpressionParser::product); }
  ChatNode product() { return chain({"*", "/", "//", "%"}, &ExpressionParser::power); }
  ChatNode power() { return chain({"**"}, &ExpressionParser::filtered); }

  ChatNode filtered() { return filters_and_tests(signed_value()); }

  ChatNode signed_value() {
    const Level level(depth_);
    if (tokens_.accept_sign("-")) return members(node(ChatOp::kNegate, list(signed_value())));
    if (tokens_.accept_sign("+")) return members(node(ChatOp::kPlus, list(signed_value())));
    return members(primary());
  }

  ChatNode filters_and_tests(ChatNode value) {
    for (;;) {
      if (tokens_.accept_sign("|")) {
        value = filter(std::move(value));
      } else if (tokens_.accept_word("is")) {
        value = test(std::move(value));
      } else if (tokens_.accept_sign("(")) {
        value = call(ChatOp::kCall, std::move(value), {});
      } else {
        return value;
      }
    }
  }

  ChatNode filter(ChatNode value) {
    const std::string name = tokens_.name();
    if (tokens_.sign(".")) refuse_chat("filter not known: " + name + ".");
    if (tokens_.accept_sign("(")) return call(ChatOp::kFilter, std::move(value), name);
    return node(ChatOp::kFilter, list(std::move(value)), name);
  }

  ChatNode test(ChatNode value) {
    const bool inverse = tokens_.accept_word("not");
    const std::string name = tokens_.name();
    ChatNode made;
    const ChatToken& next = tokens_.peek();
    if (tokens_.accept_sign("(")) {
      made = call(ChatOp::kTest, std::move(value), name);
    } else if (next.kind == Kind::kNumber || next.kind == Kind::kText || tokens_.sign("[") ||
               tokens_.sign("{") ||
               (next.kind == Kind::kName && next.text != "else" && next.text != "or" && next.text != "and")) {
      // Jinja takes any other word for the argument, also if, in and not.
      made = node(ChatOp::kTest, list(std::move(value), members(primary())), name);
    } else {
      made = node(ChatOp::kTest, list(std::move(value)), name);
    }
    return inverse ? node(ChatOp::kNot, list(std::move(made))) : std::move(made);
  }

  // Arguments, behind the bracket.
  ChatNode call(ChatOp op, ChatNode value, const std::string& text) {
    const Level level(depth_);
    ChatNode made = node(op, list(std::move(value)), text);
    while (!tokens_.accept_sign(")")) {
      if (made.parts.size() > 1) {
        tokens_.expect_sign(",");
        if (tokens_.accept_sign(")")) break;
      }
      if (tokens_.sign("*") || tokens_.sign("**")) refuse_chat("arguments by * or **");
      const bool named = tokens_.peek().kind == Kind::kName && tokens_.peek(1).kind == Kind::kSign &&
                         tokens_.peek(1).text == "=";
      if (named) {
        made.names.push_back(tokens_.name());
        tokens_.take();
      } else if (!made.names.empty()) {
        refuse_chat("an argument without a name behind one with");
      }
      made.parts.push_back(expression());
    }
    measure(&made);
    return made;
  }

  ChatNode members(ChatNode value) {
    for (;;) {
      if (tokens_.accept_sign(".")) {
        if (tokens_.peek().kind == Kind::kNumber) {
          const ChatValue place = tokens_.take().number;
          if (!place.is_integer()) refuse_chat("a member that is no whole number");
          value = node(ChatOp::kElement, list(std::move(value), constant(place)));
        } else {
          value = node(ChatOp::kMember, list(std::move(value)), tokens_.name());
        }
      } else if (tokens_.accept_sign("[")) {
        value = element(std::move(value));
      } else if (tokens_.accept_sign("(")) {
        value = call(ChatOp::kCall, std::move(value), {});
      } else {
        return value;
      }
    }
  }

  ChatNode element(ChatNode value) {
    const Level level(depth_);
    std::vector<ChatNode> bounds;
    bool slice = false;
    for (size_t place = 0; place < 3; ++place) {
      bounds.push_back(tokens_.sign(":") || tokens_.sign("]") ? constant(ChatValue::none()) : expression());
      if (!tokens_.accept_sign(":")) break;
      slice = true;
    }
    if (!tokens_.accept_sign("]")) refuse_chat("an index that is not understood");
    if (!slice && bounds[0].op == ChatOp::kConstant && bounds[0].value.is_none())
      refuse_chat("an index without a value");
    if (!slice) return node(ChatOp::kElement, list(std::move(value), std::move(bounds[0])));
    while (bounds.size() < 3) bounds.push_back(constant(ChatValue::none()));
    return node(ChatOp::kSlice,
                list(std::move(value), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2])));
  }

  ChatNode primary() {
    const Level level(depth_);
    const ChatToken token = tokens_.take();
    switch (token.kind) {
      case Kind::kNumber:
        return constant(token.number);
      case Kind::kText: {
        std::string text = token.text;
        while (tokens_.peek().kind == Kind::kText) text += tokens_.take().text;
        return constant(text);
      }
      case Kind::kName:
        return named(token.text);
      case Kind::kSign:
        if (token.text == "(") return in_brackets();
        if (token.text == "[") return node(ChatOp::kList, several("]"));
        if (token.text == "{") return node(ChatOp::kMap, pairs());
        [[fallthrough]];
      default:
        refuse_chat("expected a value, got " + (token.text.empty() ? "nothing" : printable(token.text)));
    }
  }

  static ChatNode named(const std::string& name) {
    if (name == "true" || name == "True") return constant(true);
    if (name == "false" || name == "False") return constant(false);
    if (name == "none" || name == "None") return constant(ChatValue::none());
    for (const char* reserved : {"not", "and", "or", "if", "else", "in", "is", "elif", "for"}) {
      if (name == reserved) refuse_chat("expected a value, got " + name);
    }
    return node(ChatOp::kName, {}, name);
  }

  ChatNode in_brackets() {
    if (tokens_.accept_sign(")")) return node(ChatOp::kTuple, {});
    ChatNode value = tuple(true);
    tokens_.expect_sign(")");
    return value;
  }

  std::vector<ChatNode> several(std::string_view end) {
    std::vector<ChatNode> parts;
    while (!tokens_.accept_sign(end)) {
      if (!parts.empty()) {
        tokens_.expect_sign(",");
        if (tokens_.accept_sign(end)) break;
      }
      parts.push_back(expression());
    }
    return parts;
  }

  std::vector<ChatNode> pairs() {
    std::vector<ChatNode> parts;
    while (!tokens_.accept_sign("}")) {
      if (!parts.empty()) {
        tokens_.expect_sign(",");
        if (tokens_.accept_sign("}")) break;
      }
      parts.push_back(expression());
      tokens_.expect_sign(":");
      parts.push_back(expression());
    }
    return parts;
  }

  Tokens& tokens_;
  int* depth_;
};

class TemplateParser {
 public:
  explicit TemplateParser(const std::string& text) : tokens_(text), expressions_(&tokens_, &depth_) {}

  std::vector<ChatStatement> parse() { return body({}); }

 private:
  using Body = std::vector<ChatStatement>;

  // Up to a tag that begins with one of these words, whose word is taken; with none, up to the end.
  Body body(std::initializer_list<const char*> ends, std::string* end = nullptr) {
    const Level level(&depth_);
    Body statements;
    for (;;) {
      const ChatToken token = tokens_.take();
      if (token.kind == Kind::kEnd) {
        if (ends.size() == 0) return statements;
        refuse_chat(std::string("a block without its end (expected ") + *(ends.end() - 1) + ")");
      }
      ChatStatement made;
      if (token.kind == Kind::kData) {
        made.text = token.text;
      } else if (token.kind == Kind::kPrintBegin) {
        made.action = ChatAction::kPrint;
        made.values.push_back(expressions_.tuple(true));
        tokens_.expect_end(Kind::kPrintEnd);
      } else {
        const std::string word = tokens_.name();
        for (const char* known : ends) {
          if (word != known) continue;
          if (end != nullptr) *end = word;
          return statements;
        }
        made = statement(word);
      }
      statements.push_back(std::move(made));
    }
  }

  void end_tag() { tokens_.expect_end(Kind::kBlockEnd); }

  ChatStatement statement(const std::string& word) {
    if (word == "if") return conditions();
    if (word == "for") return loop();
    if (word == "set") return assignment();
    if (word == "macro") return macro();
    ChatStatement made;
    if (word == "break" || word == "continue") {
      if (loops_ == 0) refuse_chat(word + " outside a loop");
      made.action = word == "break" ? ChatAction::kBreak : ChatAction::kContinue;
      end_tag();
      return made;
    }
    if (word == "generation") {  // what is said by the assistant; for training
      made.action = ChatAction::kScope;
      end_tag();
      made.bodies.push_back(body({"endgeneration"}));
      end_tag();
      return made;
    }
    refuse_chat("statement not known: " + printable(word));
  }

  ChatStatement conditions() {
    ChatStatement made;
    made.action = ChatAction::kIf;
    std::string end = "elif";
    while (end == "elif") {
      made.values.push_back(expressions_.tuple(false));
      end_tag();
      made.bodies.push_back(body({"elif", "else", "endif"}, &end));
    }
    if (end == "else") {
      end_tag();
      made.bodies.push_back(body({"endif"}));
    }
    end_tag();
    return made;
  }

  ChatStatement loop() {
    ChatStatement made;
    made.action = ChatAction::kFor;
    do {
      made.names.push_back(variable());
    } while (tokens_.accept_sign(","));
    if (!tokens_.accept_word("in")) tokens_.unexpected("in");
    made.values.push_back(expressions_.tuple(false));
    if (tokens_.accept_word("if")) made.values.push_back(expressions_.expression());
    if (tokens_.word("recursive")) refuse_chat("loop not known: recursive");
    end_tag();
    std::string end;
    ++loops_;
    made.bodies.push_back(body({"else", "endfor"}, &end));
    --loops_;
    if (end == "else") {
      end_tag();
      made.bodies.push_back(body({"endfor"}));
    }
    end_tag();
    return made;
  }

  ChatStatement assignment() {
    ChatStatement made;
    made.action = ChatAction::kSet;
    do {
      made.names.push_back(variable());
    } while (tokens_.accept_sign(","));
    if (made.names.size() == 1 && tokens_.accept_sign(".")) made.text = tokens_.name();
    if (tokens_.accept_sign("=")) {
      made.values.push_back(expressions_.tuple(true));
      end_tag();
      return made;
    }
    if (made.names.size() > 1 || !made.text.empty()) tokens_.unexpected("=");
    made.action = ChatAction::kSetBlock;
    made.values.push_back(expressions_.filters(node(ChatOp::kName, {}, kChatBody)));
    end_tag();
    made.bodies.push_back(body({"endset"}));
    end_tag();
    return made;
  }

  ChatStatement macro() {
    ChatStatement made;
    made.action = ChatAction::kMacro;
    made.text = variable();
    tokens_.expect_sign("(");
    while (!tokens_.accept_sign(")")) {
      if (!made.names.empty()) {
        tokens_.expect_sign(",");
        if (tokens_.accept_sign(")")) break;
      }
      made.names.push_back(variable());
      if (tokens_.accept_sign("=")) {
        made.values.push_back(expressions_.expression());
      } else if (!made.values.empty()) {
        refuse_chat("a parameter without a default behind one with");
      }
    }
    end_tag();
    const int loops = std::exchange(loops_, 0);
    made.bodies.push_back(body({"endmacro"}));
    loops_ = loops;
    end_tag();
    return made;
  }

  // A name that may be set.
  std::string variable() {
    std::string name = tokens_.name();
    for (const char* constant :
         {"true", "false", "none", "True", "False", "None", "not", "and", "or", "if", "in", "is", "else"}) {
      if (name == constant) refuse_chat("set of something else than a name: " + name);
    }
    return name;
  }

  Tokens tokens_;
  int depth_ = 0, loops_ = 0;
  ExpressionParser expressions_;
};

}  // namespace

std::vector<ChatStatement> parse_chat_template(const std::string& text) {
  return TemplateParser(text).parse();
}

}  // namespace eep
