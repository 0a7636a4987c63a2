// Chat templates: the Jinja text that a model's files carry, rendered as transformers renders it, with
// trim_blocks and lstrip_blocks: text, {{ expression }}, {% if %}, {% for %} with a condition, else, break and
// continue, {% set %}, {% macro %}, {# comments #}. What is not implemented is refused by its name.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "loaders/formats/json.h"

namespace eep {

struct ChatMessage {
  std::string role;     // system, user, assistant
  std::string content;  // UTF-8
};

struct ChatTemplate {
  std::string text;  // Jinja
  std::string bos_token, eos_token;
  std::string origin;                       // the file, or the name of a built-in template
  std::map<std::string, Json> variables{};  // further ones: special tokens, enable_thinking, ...
};

// The template of a model directory: chat_template.jinja, else tokenizer_config.json. Throws Error(kUsage)
// if the model has none, kData if a file is malformed.
ChatTemplate find_chat_template(const std::string& directory);

// "mistral-v1", "chatml" or "none" (the contents, one after the other) with the model's own special tokens.
// Throws Error(kUsage) for other names.
ChatTemplate built_in_chat_template(const std::string& name, const std::string& directory);

// "enable_thinking=false": true and false are booleans, a number is a number, anything else a text. Throws
// Error(kUsage).
void set_chat_variable(const std::string& assignment, ChatTemplate* chat);

// The prompt, ready to be encoded without adding special tokens. The assistant is to speak next.
std::string render_chat(const ChatTemplate& chat, const std::vector<ChatMessage>& messages);

}  // namespace eep
