// Values of chat templates, with the meaning that Python and Jinja give them: truth, equality, order, text.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "loaders/formats/json.h"

namespace eep {

enum class ChatKind : uint8_t {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kReal,
  kText,
  kList,
  kTuple,
  kMap,
  kRange,      // range(): a list that is not printed
  kView,       // items(), keys(), values(): has a length, and no element by index
  kIterator,   // what map, select, ... give: neither length nor index, read once
  kNamespace,  // shared and changeable
  kLoop,
  kFunction,
  kMacro  // also the body of a call block
};

struct ChatItems;
struct ChatEntries;

struct ChatValue {
  ChatKind kind = ChatKind::kUndefined;
  int64_t integer = 0;                     // kBool, kInt; kMacro, kLoop: what a call runs, 0: nothing
  double real = 0;                         // kReal
  std::string text{};                      // kText: UTF-8; kFunction, kMacro: its name
  std::shared_ptr<ChatItems> items{};      // kList, kTuple, kRange, kView, kIterator
  std::shared_ptr<ChatEntries> entries{};  // kMap, kNamespace, kLoop

  ChatValue() = default;
  ChatValue(bool value) : kind(ChatKind::kBool), integer(value) {}
  ChatValue(int64_t value) : kind(ChatKind::kInt), integer(value) {}
  ChatValue(size_t value) : ChatValue(static_cast<int64_t>(value)) {}
  ChatValue(double value) : kind(ChatKind::kReal), real(value) {}
  ChatValue(std::string value) : kind(ChatKind::kText), text(std::move(value)) {}
  ChatValue(const char* value) : ChatValue(std::string(value)) {}
  static ChatValue none();
  static ChatValue function(std::string name);
  static ChatValue sequence(ChatKind kind, std::vector<ChatValue> values);
  static ChatValue object(ChatKind kind);

  bool is_undefined() const { return kind == ChatKind::kUndefined; }
  bool is_none() const { return kind == ChatKind::kNone; }
  bool is_text() const { return kind == ChatKind::kText; }
  bool is_integer() const { return kind == ChatKind::kInt || kind == ChatKind::kBool; }
  bool is_number() const { return is_integer() || kind == ChatKind::kReal; }
  bool is_map() const { return kind == ChatKind::kMap; }
  double number() const { return kind == ChatKind::kReal ? real : static_cast<double>(integer); }
  // What may be a key of a mapping: none, a boolean, a number or a text. Others are refused.
  bool is_key() const { return is_none() || is_number() || is_text(); }
  const ChatValue* find(std::string_view key) const;      // of entries; null if it is not there
  const ChatValue* find_key(const ChatValue& key) const;  // the same: 1, 1.0 and true are one key
  void set(const ChatValue& key, ChatValue value);        // of entries; a key that is there stays as it is
  const std::vector<ChatValue>& values() const;           // of items
};

struct ChatItems {
  std::vector<ChatValue> values;
  bool taken = false;  // kIterator: read already
  int depth = 1;       // of nesting
};

struct ChatEntries {
  std::vector<std::pair<ChatValue, ChatValue>> entries;  // in the order of insertion
  int depth = 1;
};

// Work left to a template: hostile ones end.
struct ChatBudget {
  int64_t steps = 1000000;
  void take(int64_t count) {
    steps -= count;
    if (steps < 0) throw Error(ExitCode::kData, "chat template", "does too much work");
  }
};

// hint: for eep generate, which is where no other remedy is known.
[[noreturn]] void refuse_chat(const std::string& what,
                              const std::string& hint = "--template chatml, mistral-v1 or none");

ChatValue chat_value(const Json& json);
bool chat_truth(const ChatValue& value);
bool chat_equal(const ChatValue& a, const ChatValue& b);
// Below 0, 0, above 0. Refuses values that have no order.
int chat_compare(const ChatValue& a, const ChatValue& b);
std::string chat_text(const ChatValue& value);  // str()
std::string chat_repr(const ChatValue& value);  // repr()

struct ChatJsonStyle {
  bool ascii = false, sorted = false;
  int indent = -1;  // below 0: one line
  std::string comma = ", ", colon = ": ";
};
std::string chat_json(const ChatValue& value, const ChatJsonStyle& style);  // json.dumps()

// What iterating gives. Refuses what Python refuses, and an iterator that was read before.
const std::vector<ChatValue>& iterate_chat(const ChatValue& value, std::vector<ChatValue>* storage);

// One text a character.
std::vector<std::string> chat_characters(std::string_view text);
bool is_python_space(uint32_t code_point);
std::string chat_strip(std::string_view text, bool left, bool right, const std::string* signs = nullptr);

}  // namespace eep
