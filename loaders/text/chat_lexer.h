// The tokens of a chat template.
#pragma once

#include <string>
#include <vector>

#include "loaders/text/chat_value.h"

namespace eep {

enum class ChatTokenKind : uint8_t {
  kData,
  kPrintBegin,
  kPrintEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kNumber,
  kText,
  kSign,
  kEnd
};

struct ChatToken {
  ChatTokenKind kind = ChatTokenKind::kEnd;
  std::string text{};  // kData, kName, kText (its value), kSign
  ChatValue number{};
};

// Ends with kEnd. Blanks around tags are removed as trim_blocks, lstrip_blocks and the signs - and + say.
std::vector<ChatToken> chat_tokens(const std::string& text);

}  // namespace eep
