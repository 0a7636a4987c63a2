#include "loaders/text/chat_template.h"

#include <algorithm>
#include <utility>

#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/text/chat_expression.h"
#include "loaders/text/tokenizer_data.h"

namespace eep {

namespace {

constexpr size_t kMaxTemplate = size_t{1} << 20;
constexpr size_t kMaxOutput = size_t{1} << 26;
constexpr int kMaxCalls = 8;  // of macros, call blocks' bodies and recursive loops inside each other

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

// Runs the statements of a template.
class Renderer {
 public:
  Renderer(const ChatTemplate& chat, const std::vector<ChatMessage>& messages, bool generation_prompt)
      : statements_(parse_chat_template(chat.text)), evaluator_(&budget_) {
    std::vector<ChatValue> list;
    for (const ChatMessage& message : messages) {
      ChatValue map = ChatValue::object(ChatKind::kMap);
      map.set("role", message.role);
      map.set("content", message.content);
      if (message.fields.is_object()) {
        for (const auto& [name, value] : message.fields.items()) map.set(name, chat_value(value));
      }
      list.push_back(std::move(map));
    }
    scopes().set("messages", ChatValue::sequence(ChatKind::kList, std::move(list)));
    if (!chat.bos_token.empty()) scopes().set("bos_token", chat.bos_token);
    if (!chat.eos_token.empty()) scopes().set("eos_token", chat.eos_token);
    scopes().set("tools", ChatValue::none());  // as transformers passes them
    scopes().set("documents", ChatValue::none());
    scopes().set("add_generation_prompt", generation_prompt);
    for (const auto& [name, value] : chat.variables) scopes().set(name, chat_value(value));
    evaluator_.call_own = [this](const ChatValue& function, const ChatArguments& given) {
      return call(function, given);
    };
  }

  std::string render() {
    run(statements_);
    return std::move(out_);
  }

 private:
  using Body = std::vector<ChatStatement>;
  enum class Flow : uint8_t { kNext, kBreak, kContinue };

  ChatScopes& scopes() { return evaluator_.scopes(); }
  ChatValue evaluate(const ChatNode& node) { return evaluator_.evaluate(node); }

  void write(const std::string& text) {
    if (out_.size() + text.size() > kMaxOutput) refuse_chat("the prompt grows too long");
    budget_.take(static_cast<int64_t>(text.size() / 64));
    out_ += text;
  }

  // What `write_it` writes.
  template <typename Write>
  std::string captured(const Write& write_it) {
    std::string outside = std::exchange(out_, {});
    write_it();
    return std::exchange(out_, std::move(outside));
  }

  // A body in a scope of its own, and its text through filters, which see what the body set. Without a value
  // where the body leaves a loop.
  Flow filtered(const ChatStatement& statement, ChatValue* value) {
    Flow flow = Flow::kNext;
    scopes().push();
    std::string text = captured([&] { flow = run(statement.bodies[0]); });
    if (flow == Flow::kNext) {
      scopes().set(kChatBody, std::move(text));
      *value = evaluate(statement.values[0]);
    }
    scopes().pop();
    return flow;
  }

  Flow run(const Body& body) {
    for (const ChatStatement& statement : body) {
      budget_.take(1);
      if (const Flow flow = run(statement); flow != Flow::kNext) return flow;
    }
    return Flow::kNext;
  }

  Flow run(const ChatStatement& statement) {
    switch (statement.action) {
      case ChatAction::kText:
        write(statement.text);
        break;
      case ChatAction::kPrint:
        write(chat_text(evaluate(statement.values[0])));
        break;
      case ChatAction::kIf:
        return branch(statement);
      case ChatAction::kFor:
        return loop(statement);
      case ChatAction::kSet:
        assign(statement);
        break;
      case ChatAction::kSetBlock: {
        ChatValue value;
        if (const Flow flow = filtered(statement, &value); flow != Flow::kNext) return flow;
        scopes().set(statement.names[0], std::move(value));
        break;
      }
      case ChatAction::kFilterBlock: {
        ChatValue value;
        if (const Flow flow = filtered(statement, &value); flow != Flow::kNext) return flow;
        if (!value.is_text()) refuse_chat("a filter block that gives no text");
        write(value.text);
        break;
      }
      case ChatAction::kMacro:
        define(statement);
        break;
      case ChatAction::kCallBlock:
        call_with_body(statement);
        break;
      case ChatAction::kScope:
        return run_in_scope(statement);
      case ChatAction::kBreak:
        return Flow::kBreak;
      case ChatAction::kContinue:
        return Flow::kContinue;
    }
    return Flow::kNext;
  }

  Flow branch(const ChatStatement& statement) {
    for (size_t i = 0; i < statement.values.size(); ++i) {
      if (chat_truth(evaluate(statement.values[i]))) return run(statement.bodies[i]);
    }
    return statement.bodies.size() > statement.values.size() ? run(statement.bodies.back()) : Flow::kNext;
  }

  Flow run_in_scope(const ChatStatement& statement) {
    std::vector<ChatValue> values;  // none sees the others
    const Body* const sets = statement.bodies.size() > 1 ? &statement.bodies[1] : nullptr;
    for (size_t i = 0; sets != nullptr && i < sets->size(); ++i)
      values.push_back(evaluate((*sets)[i].values[0]));
    scopes().push();
    for (size_t i = 0; i < values.size(); ++i) unpack((*sets)[i].names, values[i]);
    const Flow flow = run(statement.bodies[0]);
    scopes().pop();
    return flow;
  }

  void assign(const ChatStatement& statement) {
    ChatValue value = evaluate(statement.values[0]);
    if (statement.text.empty()) return unpack(statement.names, value);
    const std::string& name = statement.names[0];
    const ChatValue* found = scopes().find(name);
    if (found == nullptr || found->kind != ChatKind::kNamespace) refuse_chat("no namespace " + name);
    ChatValue space = *found;  // shares its members
    space.set(statement.text, std::move(value));
  }

  void unpack(const std::vector<std::string>& names, const ChatValue& value) {
    if (names.size() == 1) return scopes().set(names[0], value);
    std::vector<ChatValue> storage;
    const std::vector<ChatValue>& values = iterate_chat(value, &storage);
    if (values.size() != names.size()) {
      refuse_chat("several names for another number of values" + expected_got(names.size(), values.size()));
    }
    for (size_t i = 0; i < names.size(); ++i) scopes().set(names[i], values[i]);
  }

  // What a call runs, and the scope that it sees; of a call block or a loop while that runs.
  struct Function {
    const ChatStatement* statement;
    const ChatScopes::Scope* place;
  };

  // A value that runs the statement when it is called.
  ChatValue function_of(const ChatStatement& statement, const std::string& name) {
    ChatValue function = ChatValue::function(name);
    function.kind = ChatKind::kMacro;
    function.integer = ++last_function_;
    functions_[last_function_] = {&statement, scopes().place()};
    return function;
  }

  const Function& function(const ChatValue& value) const {
    const auto found = functions_.find(value.integer);
    if (found != functions_.end()) return found->second;
    refuse_chat(value.kind == ChatKind::kLoop ? "a call of a loop behind its end"
                                              : "a call of a call block's body behind its end");
  }

  // The items of a loop that its condition keeps.
  std::vector<ChatValue> looped(const ChatStatement& statement, const ChatValue& sequence) {
    std::vector<ChatValue> storage;
    const std::vector<ChatValue>& values = iterate_chat(sequence, &storage);
    budget_.take(static_cast<int64_t>(values.size()));
    if (statement.values.size() == 1) return values;
    std::vector<ChatValue> kept;
    for (const ChatValue& value : values) {
      scopes().push();
      unpack(statement.names, value);
      if (chat_truth(evaluate(statement.values[1]))) kept.push_back(value);
      scopes().pop();
    }
    return kept;
  }

  Flow loop(const ChatStatement& statement) {
    const ChatValue sequence = evaluate(statement.values[0]);
    const int64_t recursion = statement.special ? function_of(statement, "loop").integer : 0;
    const Flow flow = iterate(statement, sequence, recursion, 0);
    functions_.erase(recursion);
    return flow;
  }

  // recursion: the number of the function that a call of the loop runs, 0 for none; depth: of such calls. The
  // flow is that of what stands behind else.
  Flow iterate(const ChatStatement& statement, const ChatValue& sequence, int64_t recursion, size_t depth) {
    const std::vector<ChatValue> values = looped(statement, sequence);
    const size_t count = values.size();
    bool ended = false;  // a body ran to its end
    for (size_t i = 0; i < count; ++i) {
      ChatValue place = ChatValue::object(ChatKind::kLoop);
      place.integer = recursion;
      place.set("index0", i);
      place.set("index", i + 1);
      place.set("revindex0", count - i - 1);
      place.set("revindex", count - i);
      place.set("first", i == 0);
      place.set("last", i + 1 == count);
      place.set("length", count);
      place.set("depth0", depth);
      place.set("depth", depth + 1);
      if (i > 0) place.set("previtem", values[i - 1]);
      if (i + 1 < count) place.set("nextitem", values[i + 1]);
      budget_.take(8);
      scopes().push();
      scopes().set("loop", std::move(place));
      unpack(statement.names, values[i]);
      const Flow flow = run(statement.bodies[0]);
      scopes().pop();
      ended = ended || flow == Flow::kNext;
      if (flow == Flow::kBreak) break;
    }
    if (ended || statement.bodies.size() == 1) return Flow::kNext;
    scopes().push();
    const Flow flow = run(statement.bodies[1]);
    scopes().pop();
    return flow;
  }

  void define(const ChatStatement& statement) {
    if (scopes().depth() > 1) refuse_chat("a macro inside a block: " + statement.text);
    scopes().set(statement.text, function_of(statement, statement.text));
  }

  void call_with_body(const ChatStatement& statement) {
    const ChatStatement& body = statement.bodies[0][0];
    const ChatValue caller = function_of(body, body.text);
    const ChatValue value = evaluator_.call(statement.values[0], &caller);
    functions_.erase(caller.integer);
    if (!value.is_text()) refuse_chat("a call block of something that gives no text");
    write(value.text);
  }

  // Of a macro, a call block's body or a recursive loop: the text that it writes.
  ChatValue call(const ChatValue& value, const ChatArguments& given) {
    const bool loops = value.kind == ChatKind::kLoop;
    if (loops && value.integer == 0) refuse_chat("a call of a loop that is not recursive");
    const Function called = function(value);
    if (++calls_ > kMaxCalls)
      refuse_chat(loops ? "a loop that calls itself too deep" : "macros that call each other too deep");
    scopes().push(called.place);
    std::string text = captured([&] {
      if (loops) {
        const bool named = given.named.size() == 1 && given.named[0].first == "iterable";
        if (given.values.size() + given.named.size() != 1 || (given.values.empty() && !named))
          refuse_chat("a call of a loop with these arguments (expected a list)");
        iterate(*called.statement, named ? given.named[0].second : given.values[0], value.integer,
                static_cast<size_t>(value.find("depth")->integer));
      } else {
        bind(*called.statement, given);
        run(called.statement->bodies[0]);
      }
    });
    scopes().pop();
    --calls_;
    return text;
  }

  // The arguments of a macro as variables. All are there before the defaults are made, in their order.
  void bind(const ChatStatement& macro, const ChatArguments& given) {
    const std::vector<std::string>& names = macro.names;
    if (given.values.size() > names.size()) refuse_chat("too many arguments of macro " + macro.text);
    std::vector<bool> there(names.size());
    for (size_t i = 0; i < names.size(); ++i) {
      there[i] = i < given.values.size();
      scopes().set(names[i], there[i] ? given.values[i] : ChatValue());
    }
    if (macro.special) scopes().set("caller", {});
    for (const auto& [name, value] : given.named) {
      const auto place = std::find(names.begin(), names.end(), name);
      const auto i = static_cast<size_t>(place - names.begin());
      if (place == names.end()) {
        if (name != "caller" || !macro.special)
          refuse_chat("macro " + macro.text + " has no argument " + name);
        if (!value.is_none()) scopes().set(name, value);
        continue;
      }
      if (there[i]) refuse_chat("an argument of macro " + macro.text + " given twice");
      there[i] = true;
      scopes().set(name, value);
    }
    const size_t first_default = names.size() - macro.values.size();
    for (size_t i = first_default; i < names.size(); ++i) {
      if (!there[i]) scopes().set(names[i], evaluate(macro.values[i - first_default]));
    }
  }

  std::vector<ChatStatement> statements_;
  ChatBudget budget_;
  ChatEvaluator evaluator_;
  std::map<int64_t, Function> functions_;
  int64_t last_function_ = 0;
  int calls_ = 0;
  std::string out_;
};

bool is_name(const std::string& text) {
  return !text.empty() &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789") ==
             std::string::npos;
}

// What a model's files say, except the file of the template itself. named: of several templates, or
// "default".
ChatTemplate read_side_files(const std::string& directory, const std::string& named) {
  ChatTemplate chat;
  for (const auto& [name, special] : read_special_tokens(directory)) {
    const std::string& token = special.content;
    if (name == "bos_token") {
      chat.bos_token = token;
    } else if (name == "eos_token") {
      chat.eos_token = token;
    } else if (!token.empty()) {
      chat.variables[name] = token;
    }
  }
  // The template of a processor, then that of the tokenizer.
  for (const char* file : {"chat_template.json", "tokenizer_config.json"}) {
    const std::string path = join_path(directory, file);
    if (!is_there(path) || !chat.text.empty()) continue;
    const JsonDocument document = JsonDocument::read(path);
    const JsonView root = document.root().as_object();
    if (!root.has_value("chat_template")) continue;
    chat.origin = path;
    const JsonView stored = root.at("chat_template");
    if (stored.is_string() && named == "default") chat.text = stored.as_string();
    if (stored.is_string()) continue;
    for (size_t i = 0; i < stored.as_array().size(); ++i) {  // [{name, template}]
      const JsonView one = stored.at(i).as_object();
      if (one.at("name").as_string() == named) chat.text = one.at("template").as_string();
    }
  }
  return chat;
}

}  // namespace

std::optional<ChatTemplate> find_chat_template(const std::string& directory, const std::string& name) {
  ChatTemplate chat = read_side_files(directory, name);
  const std::string own = join_path(
      directory, name == "default" ? "chat_template.jinja" : "additional_chat_templates/" + name + ".jinja");
  if (is_there(own)) {
    chat.text = read_file(own, kMaxTemplate);
    chat.origin = own;
  }
  if (chat.text.empty()) return std::nullopt;
  return chat;
}

ChatTemplate built_in_chat_template(const std::string& name, const std::string& directory) {
  ChatTemplate chat = read_side_files(directory, "default");
  chat.origin = name;
  if (name == "mistral-v1") {
    chat.text = kMistralV1;
  } else if (name == "chatml") {
    chat.text = kChatMl;
  } else if (name == "none") {
    chat.text = kNone;
  } else {
    throw Error(ExitCode::kUsage, "--template",
                "no such template" + expected_got("mistral-v1, chatml or none", printable(name)));
  }
  if (name == "mistral-v1" && chat.bos_token.empty()) chat.bos_token = "<s>";
  if (name == "mistral-v1" && chat.eos_token.empty()) chat.eos_token = "</s>";
  return chat;
}

ChatTemplate named_chat_template(const std::string& name, const std::string& directory) {
  const bool built_in = name == "mistral-v1" || name == "chatml" || name == "none";
  if (built_in) return built_in_chat_template(name, directory);
  const std::string own = name.empty() ? "default" : name;
  if (!is_name(own))
    throw Error(ExitCode::kUsage, "--template", "no name of a template (got " + printable(name) + ")");
  std::optional<ChatTemplate> chat = find_chat_template(directory, own);
  if (chat) return *std::move(chat);
  throw Error(
      ExitCode::kUsage, own == "default" ? "--chat" : "--template",
      (own == "default" ? "no chat template" : "no chat template " + own) + " in the files of " + directory,
      "--template chatml, mistral-v1 or none");
}

void set_chat_variable(const std::string& assignment, ChatTemplate* chat) {
  const size_t equals = assignment.find('=');
  const std::string name = assignment.substr(0, equals);
  if (equals == std::string::npos || !is_name(name) || (name[0] >= '0' && name[0] <= '9') ||
      name == "messages") {
    throw Error(ExitCode::kUsage, "--chat-set",
                "not a variable and its value" + expected_got("NAME=VALUE", printable(assignment)));
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

std::string render_chat(const ChatTemplate& chat, const std::vector<ChatMessage>& messages,
                        bool generation_prompt) {
  if (chat.text.size() > kMaxTemplate) refuse_chat("too long");
  return Renderer(chat, messages, generation_prompt).render();
}

}  // namespace eep
