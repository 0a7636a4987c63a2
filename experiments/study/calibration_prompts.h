// CalibrationPrompts: a text file as token sequences for the engine. The file is read twice: first to the end
// for its rows, so that one that is wrong is found before the work; then part by part while the model runs,
// so that it need not fit memory.
#pragma once

#include <string>

#include "engine/calibration.h"
#include "experiments/study/model_context.h"
#include "loaders/tasks/calibration_text.h"

namespace eep {

struct CalibrationPromptsOptions {
  std::string file, field;
  // auto: conversations through the model's chat template if it has one; on: prompt/completion too; off; or a
  // built-in template's name.
  std::string chat = "auto";
  int64_t limit = 0;       // rows, 0: all
  int64_t window = 2048;   // longest sequence
  int64_t min_tokens = 1;  // fewer are refused
};

class CalibrationPrompts {
 public:
  // The model must outlive the object. Throws Error(kNoInput, kIo, kData) for what is wrong with the file,
  // Error(kUsage) for a template that is not there.
  CalibrationPrompts(const CalibrationPromptsOptions& options, ModelContext& model);

  // "rows: 12 used (10 messages, 2 text), 3 skipped (no text)"
  std::string summary() const;
  const std::string& note() const { return note_; }  // what else is to be said, or ""
  const CalibrationTextCounts& counts() const { return counts_; }
  const std::string& hash() const { return hash_; }  // of the texts: "xxh3:..."
  int64_t sequences() const { return sequences_; }   // given so far
  int64_t bytes() const { return bytes_; }           // of the texts
  int64_t bytes_given() const { return bytes_given_; }

  // The next sequences; false: no more. From the file's beginning.
  bool next(Prompts& prompts);

 private:
  void read_through(const CalibrationTextOptions& options);
  std::vector<std::vector<int32_t>> windows(const CalibrationDocument& document) const;

  CalibrationPromptsOptions options_;
  ModelContext& model_;
  int64_t window_;
  CalibrationTextCounts counts_;
  std::string hash_, note_;
  int64_t sequences_ = 0, bytes_ = 0, bytes_given_ = 0;
  std::optional<CalibrationText> text_;
};

}  // namespace eep
