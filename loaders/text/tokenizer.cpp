// Tokenizer: which file is read, and the walk of a text through its stages.
#include "loaders/text/tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "kernels/common/expected.h"
#include "loaders/formats/json.h"
#include "loaders/formats/unicode.h"
#include "loaders/text/tokenizer_data.h"

namespace eep {

namespace {

constexpr size_t kMaxText = size_t{1} << 30;  // positions are 32-bit

std::vector<std::string> rank_files(const std::string& directory) {
  std::vector<std::string> found;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".tiktoken") found.push_back(entry->path().string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// The tokenizer file of a model directory; "" when there is none.
std::string find_file(const std::string& directory) {
  for (const char* name : {"tokenizer.json", "tokenizer.model"}) {
    if (const std::string path = join_path(directory, name); is_there(path)) return path;
  }
  const std::vector<std::string> ranks = rank_files(directory);
  if (ranks.size() > 1) {
    throw Error(ExitCode::kData, directory,
                "several tokenizers (" + ranks[0] + " and " + ranks[1] + ", expected one)");
  }
  return ranks.empty() ? "" : ranks.front();
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<const TokenizerData> data) : data_(std::move(data)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

bool Tokenizer::exists(const std::string& model_directory) {
  return directory_exists(model_directory) && !find_file(model_directory).empty();
}

Tokenizer Tokenizer::load(const std::string& model_directory) {
  const std::string path = directory_exists(model_directory) ? find_file(model_directory) : model_directory;
  if (path.empty()) {
    throw Error(ExitCode::kNoInput, model_directory,
                "no tokenizer (expected tokenizer.json, tokenizer.model or qwen.tiktoken)");
  }
  TokenizerData data = path.ends_with(".model")      ? read_tokenizer_model(path)
                       : path.ends_with(".tiktoken") ? read_tokenizer_tiktoken(path)
                                                     : read_tokenizer_json(path);
  size_t tokens = 0;
  for (const std::string& spelling : data.spelling) tokens += spelling.empty() ? 0u : 1u;
  data.description = std::string(data.byte_level ? "byte-level BPE, " : "BPE, ") + std::to_string(tokens) +
                     " tokens, " + std::filesystem::path(path).filename().string();
  return Tokenizer(std::make_unique<const TokenizerData>(std::move(data)));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special) const {
  if (text.size() > kMaxText) {
    throw Error(
        ExitCode::kData, "text",
        "too long to tokenize" + expected_got("at most " + std::to_string(kMaxText) + " bytes", text.size()));
  }
  const TokenizerData& data = *data_;
  std::string repaired;
  if (!is_valid_utf8(text)) text = repaired = replace_invalid_utf8(text);

  std::vector<int32_t> ids;
  if (add_special) ids = data.prefix;
  const auto token = [&](int32_t id) { ids.push_back(id); };
  const PieceSink piece = [&](std::string_view bytes) { data.bpe.encode(bytes, ids); };
  const auto part = [&](std::string_view raw, size_t raw_offset) {
    const bool plain = std::all_of(
        data.normalizers.begin(), data.normalizers.end(),
        [&](const Normalizer& n) { return n.kind == Normalizer::Kind::kNfc && is_surely_nfc(raw); });
    std::string normal;
    if (!plain) normal = normalize(data.normalizers, raw);
    data.normalized_added.split(
        plain ? raw : std::string_view(normal),
        [&](std::string_view stretch, size_t offset) {
          pre_tokenize(data.pre_tokenizers, stretch, raw_offset == 0 && offset == 0, piece);
        },
        token);
  };
  data.raw_added.split(text, part, token);
  if (add_special) ids.insert(ids.end(), data.suffix.begin(), data.suffix.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  const TokenizerData& data = *data_;
  const bool bytes_only = data.decoder.size() == 1 && data.decoder[0].kind == DecoderStep::Kind::kByteLevel;
  std::string bytes;
  std::vector<std::string> tokens;
  for (int32_t id : ids) {
    if (token_text(id).empty() || (skip_special && is_special(id))) continue;
    if (bytes_only) {
      bytes += data.bytes[static_cast<size_t>(id)];
    } else {
      tokens.push_back(data.spelling[static_cast<size_t>(id)]);
    }
  }
  return bytes_only ? replace_invalid_utf8(bytes) : decode_tokens(data, tokens);
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(data_->spelling.size()); }

std::string_view Tokenizer::token_text(int32_t id) const {
  return id >= 0 && id < vocab_size() ? std::string_view(data_->spelling[static_cast<size_t>(id)]) : "";
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
  return id >= 0 && id < vocab_size() ? std::string_view(data_->bytes[static_cast<size_t>(id)]) : "";
}

int32_t Tokenizer::token_id(std::string_view text) const { return data_->by_spelling.find(text); }

bool Tokenizer::is_special(int32_t id) const {
  return id >= 0 && id < vocab_size() && data_->special[static_cast<size_t>(id)] != 0;
}

int32_t Tokenizer::bos_id() const { return data_->bos_id; }
int32_t Tokenizer::eos_id() const { return data_->eos_id; }
const std::string& Tokenizer::description() const { return data_->description; }

}  // namespace eep
