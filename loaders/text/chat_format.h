// Python's two ways to fill values into a text, as chat templates use them: "{} {name}".format(...) and "%s
// %d" % (...). Fields of what has no plain text (attributes, elements, nested widths) and types beyond s, d
// and f are refused.
#pragma once

#include <string>

#include "loaders/text/chat_expression.h"

namespace eep::chat {

// str.format
std::string format_fields(const std::string& text, const ChatArguments& given);
// str % value: a tuple's elements in their order, a mapping's by name, else the one value.
std::string format_percent(const std::string& text, const ChatValue& value);

}  // namespace eep::chat
