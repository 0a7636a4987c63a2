#include "experiments/study/calibration_prompts.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <memory>

#include "kernels/common/expected.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr int64_t kTokensAtOnce = int64_t{1} << 16;

using HashState = std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)>;

std::optional<ChatTemplate> chat_template(const CalibrationPromptsOptions& options,
                                          const std::string& model) {
  if (options.chat == "off") return std::nullopt;
  if (options.chat != "auto" && options.chat != "on") return built_in_chat_template(options.chat, model);
  std::optional<ChatTemplate> chat = find_chat_template(model);
  if (!chat && options.chat == "on")
    throw Error(ExitCode::kUsage, "--template", "no chat template in the files of " + model,
                "--template chatml, mistral-v1, or auto or off for the contents alone");
  return chat;
}

}  // namespace

CalibrationPrompts::CalibrationPrompts(const CalibrationPromptsOptions& options, ModelContext& model)
    : options_(options), model_(model), window_(std::min(options.window, model.config().max_positions)) {
  if (!file_exists(options.file)) {
    if (!is_there(options.file)) fail_missing(options.file, "no such file");
    throw Error(ExitCode::kIo, options.file, "not a file that can be read twice", "write it to a file first");
  }
  CalibrationTextOptions text;
  text.field = options.field;
  text.chat = chat_template(options, model.path());
  text.render_pairs = options.chat != "auto" && options.chat != "off";
  text.limit = options.limit;
  read_through(text);
  const int64_t conversations = counts_.of_shape[static_cast<size_t>(TextShape::kMessages)] +
                                counts_.of_shape[static_cast<size_t>(TextShape::kConversations)];
  if (options.chat == "auto" && !text.chat && conversations > 0) {
    note_ =
        "the model has no chat template: messages are read as their contents, one a line "
        "(--template chatml or mistral-v1 writes their roles)";
  }
  text_.emplace(options.file, std::move(text));
}

std::vector<std::vector<int32_t>> CalibrationPrompts::windows(const CalibrationDocument& document) const {
  return token_windows(document, model_.tokenizer(), model_.config().vocab_size, window_, options_.file);
}

void CalibrationPrompts::read_through(const CalibrationTextOptions& options) {
  const HashState hash(XXH3_createState(), XXH3_freeState);
  XXH3_128bits_reset(hash.get());
  CalibrationText text(options_.file, options);
  int64_t tokens = 0;
  while (const std::optional<CalibrationDocument> document = text.next()) {
    const std::string length = std::to_string(document->text.size()) + ":";
    XXH3_128bits_update(hash.get(), length.data(), length.size());
    XXH3_128bits_update(hash.get(), document->text.data(), document->text.size());
    bytes_ += static_cast<int64_t>(document->text.size());
    if (tokens >= options_.min_tokens) continue;  // enough: the rest is counted as it is used
    for (const std::vector<int32_t>& window : windows(*document))
      tokens += static_cast<int64_t>(window.size());
  }
  counts_ = text.counts();
  const XXH128_hash_t digest = XXH3_128bits_digest(hash.get());
  hash_ = fmt::format("xxh3:{:016x}{:016x}", digest.high64, digest.low64);
  if (tokens < options_.min_tokens) {
    throw Error(ExitCode::kData, options_.file,
                "too few tokens" + expected_got(fmt::format("at least {}", options_.min_tokens),
                                                fmt::format("{}; {}", tokens, summary())),
                tokens == 0 ? "" : "take more text, or lower --min-tokens");
  }
}

std::string CalibrationPrompts::summary() const {
  std::string shapes;
  for (size_t shape = 0; shape < kTextShapeNames.size(); ++shape) {
    if (counts_.of_shape[shape] == 0) continue;
    shapes +=
        fmt::format("{}{} {}", shapes.empty() ? " (" : ", ", counts_.of_shape[shape], kTextShapeNames[shape]);
  }
  if (!shapes.empty()) shapes += ")";
  return fmt::format("rows: {} used{}, {} skipped{}", counts_.used, shapes, counts_.skipped,
                     counts_.skipped > 0 ? " (no text)" : "");
}

bool CalibrationPrompts::next(Prompts& prompts) {
  std::vector<std::vector<int32_t>> sequences;
  int64_t tokens = 0;
  while (tokens < kTokensAtOnce) {
    const std::optional<CalibrationDocument> document = text_->next();
    if (!document) break;
    bytes_given_ += static_cast<int64_t>(document->text.size());
    for (std::vector<int32_t>& window : windows(*document)) {
      tokens += static_cast<int64_t>(window.size());
      sequences.push_back(std::move(window));
    }
  }
  if (sequences.empty()) return false;
  sequences_ += static_cast<int64_t>(sequences.size());
  prompts = side_by_side(sequences);
  return true;
}

}  // namespace eep
