// What chat templates call: methods of texts, lists and mappings, functions. Each is a row with its name and
// parameters, as filters and tests are (chat_filters.cpp); what has no row is refused by its name.
#pragma once

#include <string>
#include <vector>

#include "loaders/text/chat_expression.h"

namespace eep {

bool is_chat_function(const std::string& name);  // also those of Jinja that are not implemented
ChatValue call_chat_function(ChatEvaluator& evaluator, const std::string& name, const ChatArguments& given);
ChatValue call_chat_method(ChatEvaluator& evaluator, const ChatValue& value, const std::string& name,
                           const ChatArguments& given);

}  // namespace eep
