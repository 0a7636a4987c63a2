// Chat templates as a tree: Jinja's grammar, as its lexer and parser read it with trim_blocks and
// lstrip_blocks. What is not implemented is refused by its name: raw, include, extends, block, ...
#pragma once

#include <string>
#include <vector>

#include "loaders/text/chat_value.h"

namespace eep {

enum class ChatOp : uint8_t {
  kConstant,
  kName,  // text
  kList,
  kTuple,
  kMap,      // key, value, key, value, ...
  kMember,   // parts[0].text
  kElement,  // parts[0][parts[1]]
  kSlice,    // parts[0][parts[1]:parts[2]:parts[3]]; a constant none where nothing stands
  kCall,     // parts[0](parts[1...])
  kFilter,   // parts[0] | text(parts[1...])
  kTest,     // parts[0] is text(parts[1...])
  kNot,
  kNegate,
  kPlus,
  kBinary,   // text: + - ~ * / // % **
  kCompare,  // parts[0] signs[0] parts[1] signs[1] parts[2] ...
  kAnd,
  kOr,
  kCondition  // parts[0] if parts[1] else parts[2]
};

struct ChatNode {
  ChatOp op = ChatOp::kConstant;
  std::string text{};
  ChatValue value{};
  std::vector<ChatNode> parts{};
  std::vector<std::string> names{};  // calls, filters, tests: of the last parts; kCompare: the signs
  int height = 1;                    // of the tree; bounded
};

enum class ChatAction : uint8_t {
  kText,         // text
  kPrint,        // values[0]
  kIf,           // bodies[i] if values[i]; one body more: else
  kFor,          // names in values[0] (if values[1]): bodies[0]; bodies[1]: else. special: recursive
  kSet,          // names = values[0], or names[0].text = values[0]
  kSetBlock,     // names[0] = bodies[0] as text through values[0]
  kFilterBlock,  // bodies[0] as text through values[0]
  kMacro,        // text(names): bodies[0]; values: defaults of the last names. special: it asks for a caller
  kCallBlock,    // values[0], a call, with the macro bodies[0][0] as its caller
  kScope,        // bodies[0] in a scope of its own, with what the kSet of bodies[1] set
  kBreak,
  kContinue
};

struct ChatStatement {
  ChatAction action = ChatAction::kText;
  std::string text{};
  std::vector<std::string> names{};
  std::vector<ChatNode> values{};
  std::vector<std::vector<ChatStatement>> bodies{};
  bool special = false;
};

// The name under which the text of a set block or a filter block stands in its filters.
inline constexpr const char* kChatBody = " body";

// Throws Error(kData) for what Jinja refuses and for what is not implemented.
std::vector<ChatStatement> parse_chat_template(const std::string& text);

}  // namespace eep
