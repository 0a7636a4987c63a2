// What the tables of chat_filters.cpp and chat_functions.cpp share: rows with their parameters, and the
// functions on texts and lists that filters and methods have in common.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "loaders/text/chat_expression.h"

namespace eep::chat {

inline constexpr size_t kMaxText = size_t{1} << 24;

// Arguments by the places of their parameters; undefined where none is given.
using Bound = std::vector<ChatValue>;

struct Row {
  const char* name;
  std::vector<const char*> parameters;
  ChatValue (*call)(ChatEvaluator& evaluator, const ChatValue& value, const Bound& given);
};

// Refuses arguments that the row does not have.
Bound bind(const Row& row, const ChatArguments& given);
const Row* find_row(std::span<const Row> rows, const std::string& name);

// Refuse other kinds; `who` asks.
const std::string& text_of(const ChatValue& value, const char* who);
int64_t integer_of(const ChatValue& value, const char* who);
int64_t count_or(const ChatValue& value, const char* who);  // -1 where none is given

bool is_ascii(const std::string& text);
std::string cased(const std::string& text, bool upper);
std::string capitals(const std::string& text, bool every_word);  // capitalize(), title()
std::string replaced(const std::string& text, const std::string& from, const std::string& to, int64_t count);
ChatValue stripped(const ChatValue& value, const ChatValue& signs, bool left, bool right);

ChatValue list_of(std::vector<ChatValue> values, ChatKind kind = ChatKind::kList);
std::vector<ChatValue> values_of(ChatEvaluator& evaluator, const ChatValue& value);
ChatValue joined(ChatEvaluator& evaluator, const std::string& sign, const ChatValue& list, bool texts_only);
ChatValue pairs_of(const ChatValue& map, ChatKind kind);

}  // namespace eep::chat
