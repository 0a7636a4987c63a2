// CalibrationText: a file of text as documents, one after the other, for calibration; files of any size are
// read row by row. A row of JSON Lines brings its text in one of the shapes of text_shapes(), else it is
// refused with its line; any other file is plain text, cut into pieces that end at a line's end.
//
//   {"text": "..."}
//   {"prompt": "...", "completion": "..."}            one blank between them unless there is one
//   {"messages": [{"role": "user", "content": "..."}, ...]}        content: a text, or its parts of type text
//   {"conversations": [{"from": "human", "value": "..."}, ...]}    human and gpt are user and assistant
//
// A row that has several is read as the last of this list that it has. A row whose text is null, or blank, is
// skipped and counted.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/formats/json.h"
#include "loaders/formats/line_reader.h"
#include "loaders/text/chat_template.h"
#include "loaders/text/tokenizer.h"

namespace eep {

enum class TextShape : uint8_t { kPlain, kText, kPromptCompletion, kMessages, kConversations };
inline constexpr std::array<std::string_view, 5> kTextShapeNames{"plain text", "text", "prompt/completion",
                                                                 "messages", "conversations"};

struct CalibrationTextOptions {
  std::string field;  // of every row: a text or a list of messages; "": by the row's shape
  // Renders messages and conversations; none: their contents, one a line.
  std::optional<ChatTemplate> chat;
  bool render_pairs = false;  // the template is for prompt/completion too, as user and assistant
  int64_t limit = 0;          // rows that are used; 0: all
};

struct CalibrationDocument {
  std::string text;
  bool add_special = true;  // false: a template has written the special tokens
  int64_t line = 0;         // of the file, from 1
};

struct CalibrationTextCounts {
  int64_t used = 0, skipped = 0;                           // rows; skipped: those without text
  std::array<int64_t, kTextShapeNames.size()> of_shape{};  // used ones
};

class CalibrationText {
 public:
  // Throws kNoInput, kIo, kData as LineReader does.
  CalibrationText(std::string path, CalibrationTextOptions options);

  // The next document that has text. Throws kData at file:line for a row that is none.
  std::optional<CalibrationDocument> next();
  const CalibrationTextCounts& counts() const { return counts_; }

 private:
  std::optional<CalibrationDocument> next_row();
  std::optional<CalibrationDocument> next_piece();
  TextShape read_row(const Json& row, CalibrationDocument* document) const;
  std::string rendered(const std::vector<ChatMessage>& messages, const Json& row,
                       CalibrationDocument* document) const;
  void append_message(const Json& turn, std::vector<ChatMessage>* messages) const;
  [[noreturn]] void fail(const std::string& what, const std::string& hint = {}) const;

  std::string path_;
  CalibrationTextOptions options_;
  LineReader lines_;
  bool rows_ = false;  // JSON Lines
  CalibrationTextCounts counts_;
};

// Documents as token sequences of at most `window` tokens: longer ones are cut, every token counts. Throws
// kData if the tokenizer knows a token that a model of that vocabulary does not.
std::vector<std::vector<int32_t>> token_windows(const CalibrationDocument& document,
                                                const Tokenizer& tokenizer, int64_t vocab_size,
                                                int64_t window, const std::string& where);

}  // namespace eep
