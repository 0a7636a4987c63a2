#include "loaders/text/chat_parser.h"

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace eep {

namespace {

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

class ExpressionParser {
 public:
  ExpressionParser(ChatTokens* tokens, int* depth) : tokens_(*tokens), depth_(depth) {}

  ChatNode tuple(bool conditions, bool of_loop) {
    ChatNode first = conditions ? expression() : alternatives();
    if (!tokens_.sign(",")) return first;
    std::vector<ChatNode> parts = list(std::move(first));
    while (tokens_.accept_sign(",")) {
      if (ends() || (of_loop && tokens_.word("recursive"))) break;
      parts.push_back(conditions ? expression() : alternatives());
    }
    return node(ChatOp::kTuple, std::move(parts));
  }

  ChatNode expression() {
    const ChatLevel level(depth_);
    ChatNode value = alternatives();
    while (tokens_.accept_word("if")) {
      ChatNode condition = alternatives();
      ChatNode other = constant({});
      if (tokens_.accept_word("else")) other = expression();
      value = node(ChatOp::kCondition, list(std::move(value), std::move(condition), std::move(other)));
    }
    return value;
  }

  ChatNode filters(bool filter_block) {
    ChatNode value = node(ChatOp::kName, {}, kChatBody);
    if (filter_block) value = filter(std::move(value));
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
    const ChatLevel level(depth_);
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
    const ChatLevel level(depth_);
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
    const ChatLevel level(depth_);
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
    const ChatLevel level(depth_);
    std::vector<ChatNode> bounds;
    bool slice = false, given = false;
    for (size_t place = 0; place < 3; ++place) {
      const bool nothing = tokens_.sign(":") || tokens_.sign("]");
      given = given || !nothing;
      bounds.push_back(nothing ? constant(ChatValue::none()) : expression());
      if (!tokens_.accept_sign(":")) break;
      slice = true;
    }
    if (!tokens_.accept_sign("]")) refuse_chat("an index that is not understood");
    if (!slice && !given) refuse_chat("an index without a value");
    if (!slice) return node(ChatOp::kElement, list(std::move(value), std::move(bounds[0])));
    while (bounds.size() < 3) bounds.push_back(constant(ChatValue::none()));
    return node(ChatOp::kSlice,
                list(std::move(value), std::move(bounds[0]), std::move(bounds[1]), std::move(bounds[2])));
  }

  ChatNode primary() {
    const ChatLevel level(depth_);
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
    ChatNode value = tuple(true, false);
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

  ChatTokens& tokens_;
  int* depth_;
};

}  // namespace

ChatNode ChatExpressions::tuple(bool conditions, bool of_loop) {
  return ExpressionParser(tokens_, depth_).tuple(conditions, of_loop);
}

ChatNode ChatExpressions::expression() { return ExpressionParser(tokens_, depth_).expression(); }

ChatNode ChatExpressions::filters(bool filter_block) {
  return ExpressionParser(tokens_, depth_).filters(filter_block);
}

}  // namespace eep
