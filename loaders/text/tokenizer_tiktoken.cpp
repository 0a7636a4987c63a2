// *.tiktoken: one token a line, base64 of its bytes, a space, its rank. The file does not say how to cut a
// text, so only Qwen's is read: special tokens first, then NFC and Qwen's expression, as in its
// tokenizer.json.
#include <algorithm>
#include <filesystem>

#include "kernels/common/expected.h"
#include "loaders/formats/json.h"
#include "loaders/formats/unicode.h"
#include "loaders/text/tokenizer_data.h"

namespace eep {

namespace {

constexpr size_t kMaxRankFile = size_t{64} << 20;
constexpr size_t kMaxTokenBytes = 512;

int base64_digit(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool decode_base64(std::string_view text, std::string& bytes) {
  bytes.clear();
  if (text.empty() || text.size() % 4 != 0) return false;
  size_t padding = 0;
  while (padding < 2 && text[text.size() - 1 - padding] == '=') ++padding;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const int digit = i + padding >= text.size() ? 0 : base64_digit(text[i]);
    if (digit < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if (i % 4 == 3) {
      for (int shift = 16; shift >= 0; shift -= 8) bytes += static_cast<char>(bits >> shift & 255);
      bits = 0;
    }
  }
  bytes.resize(bytes.size() - padding);
  return true;
}

std::string spelling_of(std::string_view bytes) {
  std::string spelling;
  for (char byte : bytes) append_utf8(spelling, byte_to_character(static_cast<uint8_t>(byte)));
  return spelling;
}

// Qwen's own order; the models' tokenizer_config.json may say otherwise.
std::vector<AddedToken> qwen_specials(int32_t first_id) {
  std::vector<std::string> names = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
  for (int i = 0; i < 205; ++i) names.push_back("<|extra_" + std::to_string(i) + "|>");
  std::vector<AddedToken> tokens;
  for (std::string& name : names) {
    AddedToken token;
    token.id = first_id + static_cast<int32_t>(tokens.size());
    token.content = std::move(name);
    token.special = true;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

TokenizerData read_tokenizer_tiktoken(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  if (name.rfind("qwen", 0) != 0) {
    throw Error(ExitCode::kData, path,
                "unknown pre-tokenizer of a rank file" + expected_got("qwen.tiktoken", name));
  }
  const std::string text = read_file(path, kMaxRankFile);
  TokenizerData data;
  data.byte_level = true;
  data.normalizers.push_back({Normalizer::Kind::kNfc, "", ""});
  data.pre_tokenizers.push_back({PreTokenizer::Kind::kQwen, PreTokenizer::Prepend::kNever, ""});
  data.decoder.push_back({});
  data.has_decoder = true;
  BpeOptions options;
  options.byte_level = true;
  data.bpe = Bpe(options);

  std::string bytes;
  std::vector<int32_t> parts;
  int32_t rank = 0;
  for (size_t begin = 0; begin < text.size(); ++rank) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    if (line.ends_with('\r')) line.remove_suffix(1);
    const std::string where = path + ":" + std::to_string(rank + 1);
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || !decode_base64(line.substr(0, space), bytes) ||
        bytes.size() > kMaxTokenBytes) {
      throw Error(ExitCode::kData, where,
                  "malformed line (expected base64 of at most 512 bytes, a space, a rank)");
    }
    if (line.substr(space + 1) != std::to_string(rank) || rank >= kMaxVocabulary) {
      throw Error(ExitCode::kData, where,
                  "ranks are not consecutive" + expected_got(rank, printable(line.substr(space + 1))));
    }
    // The merge of a token is the pair that the merges before it leave of its bytes.
    if (bytes.size() > 1) {
      parts.clear();
      data.bpe.encode_by_merges(bytes, parts);
      if (parts.size() != 2) {
        throw Error(ExitCode::kData, where, "token cannot be merged" + expected_got("2 parts", parts.size()));
      }
      data.bpe.add_merge(parts[0], parts[1], rank, rank);
    }
    register_token(data, rank, spelling_of(bytes), where);
    data.bpe.add_token(bytes, rank);
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char single = static_cast<char>(byte);
    if (data.bpe.find(std::string_view(&single, 1)) >= 0) continue;
    throw Error(ExitCode::kData, path, "no token for byte " + std::to_string(byte));
  }

  const TokenizerConfig config = read_tokenizer_config(std::filesystem::path(path).parent_path().string());
  std::vector<AddedToken> added = config.added_tokens;
  if (added.empty()) added = qwen_specials(rank);
  for (const AddedToken& token : added) {
    if (token.id > 2 * rank + 65536)
      throw Error(ExitCode::kData, path, "added token with id " + std::to_string(token.id));
    register_added_token(data, token, path);
  }
  finish_tokenizer(data);
  if (!config.bos_token.empty()) data.bos_id = data.by_spelling.find(config.bos_token);
  data.eos_id = data.by_spelling.find(config.eos_token.empty() ? "<|endoftext|>" : config.eos_token);
  return data;
}

}  // namespace eep
