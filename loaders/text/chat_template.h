// Chat templates: the Jinja text that a model's files carry, rendered as transformers renders it, with
// trim_blocks and lstrip_blocks: text, {{ expression }}, {% if %}, {% for %} with a condition, recursive,
// else, break and continue, {% set %}, {% with %}, {% filter %}, {% macro %}, {% call %}, {# comments #}.
// What is not implemented is refused by its name.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "loaders/formats/json.h"

namespace eep {

struct ChatMessage {
  std::string role;     // system, user, assistant
  std::string content;  // UTF-8
  Json fields{};        // further ones that a template may read (tool_calls, name, ...): an object, or null
};

struct ChatTemplate {
  std::string text;  // Jinja
  std::string bos_token, eos_token;
  std::string origin;                       // the file, or the name of a built-in template
  std::map<std::string, Json> variables{};  // further ones: special tokens, enable_thinking, ...
};

// A template of a model directory: "default" is chat_template.jinja, else chat_template.json, else
// tokenizer_config.json; another is additional_chat_templates/NAME.jinja or one of the list in
// tokenizer_config.json. None if the model has none of that name; throws Error(kData) if a file is malformed.
std::optional<ChatTemplate> find_chat_template(const std::string& directory,
                                               const std::string& name = "default");

// "mistral-v1", "chatml" or "none" (the contents, one after the other) with the model's own special tokens.
// Throws Error(kUsage) for other names.
ChatTemplate built_in_chat_template(const std::string& name, const std::string& directory);

// By --chat and --template: "" for the model's own, a built-in one, or one of the model's by its name. Throws
// Error(kUsage) if the model has none of that name.
ChatTemplate named_chat_template(const std::string& name, const std::string& directory);

// "enable_thinking=false": true and false are booleans, a number is a number, anything else a text. Throws
// Error(kUsage).
void set_chat_variable(const std::string& assignment, ChatTemplate* chat);

// The prompt, ready to be encoded without adding special tokens. generation_prompt: the assistant is to speak
// next; else the messages are all there is.
std::string render_chat(const ChatTemplate& chat, const std::vector<ChatMessage>& messages,
                        bool generation_prompt = true);

}  // namespace eep
