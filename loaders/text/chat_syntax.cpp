#include "loaders/text/chat_syntax.h"

#include <algorithm>
#include <initializer_list>
#include <iterator>
#include <utility>

#include "loaders/text/chat_parser.h"

namespace eep {

namespace {

using Kind = ChatTokenKind;

// Whether a macro with this body is given a caller: Jinja looks for the name in the order of the text, in
// what stands inside too, up to where it is set.
class CallerSearch {
 public:
  bool found() const { return state_ == State::kFound; }

  void look(const std::vector<ChatStatement>& body) {
    for (const ChatStatement& statement : body) look(statement);
  }

 private:
  enum class State : uint8_t { kNone, kFound, kSet };

  void look(const ChatNode& node) {
    if (state_ != State::kNone) return;
    if (node.op == ChatOp::kName && node.text == "caller") state_ = State::kFound;
    for (const ChatNode& part : node.parts) look(part);
  }
  void look(const std::vector<ChatNode>& values) {
    for (const ChatNode& value : values) look(value);
  }
  void set(const std::vector<std::string>& names) {
    if (state_ == State::kNone && std::count(names.begin(), names.end(), "caller") > 0) state_ = State::kSet;
  }

  void look(const ChatStatement& statement) {
    switch (statement.action) {
      case ChatAction::kIf:
        for (size_t i = 0; i < statement.bodies.size(); ++i) {
          if (i < statement.values.size()) look(statement.values[i]);
          look(statement.bodies[i]);
        }
        break;
      case ChatAction::kFor:
        set(statement.names);
        look(statement.values[0]);
        for (const auto& body : statement.bodies) look(body);
        if (statement.values.size() > 1) look(statement.values[1]);
        break;
      case ChatAction::kScope:
        if (statement.bodies.size() > 1) {
          for (const ChatStatement& each : statement.bodies[1]) set(each.names);
          for (const ChatStatement& each : statement.bodies[1]) look(each.values);
        }
        look(statement.bodies[0]);
        break;
      case ChatAction::kFilterBlock:
        look(statement.bodies[0]);
        look(statement.values);
        break;
      default:
        if (statement.action == ChatAction::kMacro || statement.text.empty()) set(statement.names);
        look(statement.values);
        for (const auto& body : statement.bodies) look(body);
    }
  }

  State state_ = State::kNone;
};

bool asks_for_caller(const std::vector<ChatStatement>& body) {
  CallerSearch search;
  search.look(body);
  return search.found();
}

class TemplateParser {
 public:
  explicit TemplateParser(const std::string& text) : tokens_(text), expressions_(&tokens_, &depth_) {}

  std::vector<ChatStatement> parse() { return body({}); }

 private:
  using Body = std::vector<ChatStatement>;

  // Up to a tag that begins with one of these words, whose word is taken; with none, up to the end.
  Body body(std::initializer_list<const char*> ends, std::string* end = nullptr) {
    const ChatLevel level(&depth_);
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
    if (word == "call") return call_block();
    if (word == "with") return with();
    if (word == "filter") return filter_block();
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
    ++around_;
    made.names = targets();
    if (!tokens_.accept_word("in")) tokens_.unexpected("in");
    made.values.push_back(expressions_.tuple(false, true));
    if (tokens_.accept_word("if")) made.values.push_back(expressions_.expression());
    made.special = tokens_.accept_word("recursive");
    end_tag();
    std::string end;
    ++loops_;
    made.bodies.push_back(body({"else", "endfor"}, &end));
    --loops_;
    if (end == "else") {
      end_tag();
      const int loops = made.special ? std::exchange(loops_, 0) : loops_;
      made.bodies.push_back(body({"endfor"}));
      loops_ = loops;
    }
    --around_;
    end_tag();
    return made;
  }

  ChatStatement assignment() {
    ChatStatement made;
    made.action = ChatAction::kSet;
    made.names = targets();
    if (made.names.size() == 1 && tokens_.accept_sign(".")) made.text = tokens_.name();
    if (tokens_.accept_sign("=")) {
      made.values.push_back(expressions_.tuple(true));
      end_tag();
      return made;
    }
    if (made.names.size() > 1 || !made.text.empty()) tokens_.unexpected("=");
    made.action = ChatAction::kSetBlock;
    made.values.push_back(expressions_.filters(false));
    end_tag();
    made.bodies.push_back(body({"endset"}));
    end_tag();
    return made;
  }

  ChatStatement filter_block() {
    ChatStatement made;
    made.action = ChatAction::kFilterBlock;
    made.values.push_back(expressions_.filters(true));
    end_tag();
    made.bodies.push_back(body({"endfilter"}));
    end_tag();
    return made;
  }

  ChatStatement with() {
    ChatStatement made;
    made.action = ChatAction::kScope;
    Body sets;
    while (tokens_.peek().kind != Kind::kBlockEnd) {
      if (!sets.empty()) tokens_.expect_sign(",");
      ChatStatement set;
      set.action = ChatAction::kSet;
      do {
        set.names.push_back(name_to_set());
      } while (tokens_.accept_sign(","));
      tokens_.expect_sign("=");
      set.values.push_back(expressions_.expression());
      sets.push_back(std::move(set));
    }
    end_tag();
    made.bodies.push_back(body({"endwith"}));
    made.bodies.push_back(std::move(sets));
    end_tag();
    return made;
  }

  ChatStatement macro() {
    ChatStatement made;
    made.text = name_to_set();
    signature(&made);
    function_body("endmacro", &made);
    return made;
  }

  // A call, and as a macro what the called one may ask for.
  ChatStatement call_block() {
    ChatStatement made, caller;
    made.action = ChatAction::kCallBlock;
    caller.text = "caller";
    if (tokens_.sign("(")) signature(&caller);
    made.values.push_back(expressions_.expression());
    if (made.values[0].op != ChatOp::kCall) refuse_chat("a call block without a call");
    function_body("endcall", &caller);
    made.bodies.emplace_back();
    made.bodies[0].push_back(std::move(caller));
    return made;
  }

  // Parameters in brackets.
  void signature(ChatStatement* function) {
    tokens_.expect_sign("(");
    for (std::vector<std::string>& names = function->names; !tokens_.accept_sign(")");) {
      if (!names.empty()) tokens_.expect_sign(",");
      names.push_back(name_to_set());
      if (std::count(names.begin(), names.end(), names.back()) > 1)
        refuse_chat("two parameters of one name: " + names.back());
      if (tokens_.accept_sign("=")) {
        function->values.push_back(expressions_.expression());
      } else if (!function->values.empty()) {
        refuse_chat("a parameter without a default behind one with");
      }
    }
  }

  void function_body(const char* end, ChatStatement* function) {
    function->action = ChatAction::kMacro;
    end_tag();
    const int loops = std::exchange(loops_, 0);
    function->bodies.push_back(body({end}));
    loops_ = loops;
    end_tag();
    if (!asks_for_caller(function->bodies[0])) return;
    const auto place = std::find(function->names.begin(), function->names.end(), "caller");
    function->special = place == function->names.end();
    if (function->names.end() - place > std::ssize(function->values))
      refuse_chat("a parameter caller without a default");
  }

  // Names that are set. That of the loop is none inside one.
  std::vector<std::string> targets() {
    std::vector<std::string> names;
    do {
      names.push_back(name_to_set());
      if (around_ > 0 && names.back() == "loop") refuse_chat("set of loop inside a loop");
    } while (tokens_.accept_sign(","));
    return names;
  }

  // A name that may be set.
  std::string name_to_set() {
    std::string name = tokens_.name();
    for (const char* constant :
         {"true", "false", "none", "True", "False", "None", "not", "and", "or", "if", "in", "is", "else"}) {
      if (name == constant) refuse_chat("set of something else than a name: " + name);
    }
    return name;
  }

  ChatTokens tokens_;
  int depth_ = 0;
  int loops_ = 0;   // that break and continue may leave
  int around_ = 0;  // loops that this stands in
  ChatExpressions expressions_;
};

}  // namespace

std::vector<ChatStatement> parse_chat_template(const std::string& text) {
  return TemplateParser(text).parse();
}

}  // namespace eep
