// What the readers of tokenizer files share: registration of tokens, the byte alphabet, normalisation.
#include "loaders/text/tokenizer_data.h"

#include <algorithm>
#include <array>

#include "kernels/common/expected.h"
#include "loaders/formats/json.h"
#include "loaders/formats/unicode.h"

namespace eep {

namespace {

struct ByteAlphabet {
  std::array<uint32_t, 256> character{};
  std::array<int, 324> byte{};  // of a character below 324, or -1
};

// Printable Latin-1 stands for itself, the other 68 bytes for U+0100 upward.
constexpr ByteAlphabet kAlphabet = [] {
  ByteAlphabet alphabet;
  for (int& byte : alphabet.byte) byte = -1;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    const uint32_t character = printable ? byte : next++;
    alphabet.character[byte] = character;
    alphabet.byte[character] = static_cast<int>(byte);
  }
  return alphabet;
}();

std::string replace_all(std::string_view text, std::string_view pattern, std::string_view content) {
  std::string result;
  size_t done = 0;
  for (size_t at = text.find(pattern); at != std::string_view::npos; at = text.find(pattern, done)) {
    result.append(text, done, at - done);
    result.append(content);
    done = at + pattern.size();
  }
  return result.append(text, done, std::string_view::npos);
}

// "<0x0A>": the byte, else -1.
int byte_of_fallback(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token.back() != '>') return -1;
  int value = 0;
  for (char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = 16 * value + digit;
  }
  return value;
}

void decode_bytes(std::vector<std::string>& tokens) {
  std::string all, bytes;
  for (const std::string& token : tokens) all += to_bytes(token, bytes) ? bytes : token;
  tokens.assign(1, replace_invalid_utf8(all));
}

void decode_byte_fallback(std::vector<std::string>& tokens) {
  std::vector<std::string> result;
  std::string run;
  const auto flush = [&] {
    if (run.empty()) return;
    if (!is_valid_utf8(run)) run = replace_all(std::string(run.size(), '?'), "?", "\xef\xbf\xbd");
    result.push_back(std::move(run));
    run.clear();
  };
  for (std::string& token : tokens) {
    const int byte = byte_of_fallback(token);
    if (byte >= 0) {
      run += static_cast<char>(byte);
    } else {
      flush();
      result.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(result);
}

void decode_strip(std::string& token, const DecoderStep& step) {
  std::string_view text = token;
  for (int64_t i = 0; i < step.start && text.starts_with(step.content); ++i)
    text.remove_prefix(step.content.size());
  for (int64_t i = 0; i < step.stop && text.ends_with(step.content); ++i)
    text.remove_suffix(step.content.size());
  token = std::string(text);
}

}  // namespace

uint32_t byte_to_character(uint8_t byte) { return kAlphabet.character[byte]; }

bool to_bytes(std::string_view spelling, std::string& bytes) {
  bytes.clear();
  for (size_t at = 0; at < spelling.size();) {
    const CodePoint c = decode_utf8(spelling, at);
    if (c.value >= kAlphabet.byte.size() || kAlphabet.byte[c.value] < 0) return false;
    bytes += static_cast<char>(kAlphabet.byte[c.value]);
    at += c.bytes;
  }
  return true;
}

std::string normalize(const std::vector<Normalizer>& normalizers, std::string_view text) {
  std::string result(text);
  for (const Normalizer& normalizer : normalizers) {
    switch (normalizer.kind) {
      case Normalizer::Kind::kNfc:
        if (!is_surely_nfc(result)) result = to_nfc(result);
        break;
      case Normalizer::Kind::kPrepend:
        if (!result.empty()) result.insert(0, normalizer.content);
        break;
      case Normalizer::Kind::kReplace:
        result = replace_all(result, normalizer.pattern, normalizer.content);
        break;
    }
  }
  return result;
}

std::string decode_tokens(const TokenizerData& data, const std::vector<std::string>& given) {
  std::vector<std::string> tokens = given;
  for (const DecoderStep& step : data.decoder) {
    switch (step.kind) {
      case DecoderStep::Kind::kByteLevel:
        decode_bytes(tokens);
        break;
      case DecoderStep::Kind::kReplace:
        for (std::string& token : tokens) token = replace_all(token, step.pattern, step.content);
        break;
      case DecoderStep::Kind::kByteFallback:
        decode_byte_fallback(tokens);
        break;
      case DecoderStep::Kind::kFuse: {
        std::string all;
        for (const std::string& token : tokens) all += token;
        tokens.assign(1, std::move(all));
        break;
      }
      case DecoderStep::Kind::kStrip:
        for (std::string& token : tokens) decode_strip(token, step);
        break;
      case DecoderStep::Kind::kMetaspace:
        for (size_t i = 0; i < tokens.size(); ++i) {
          tokens[i] = replace_all(tokens[i], step.pattern, i == 0 && step.drop_first ? "" : " ");
        }
        break;
    }
  }
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (!data.has_decoder && i > 0) text += ' ';
    text += tokens[i];
  }
  return text;
}

void register_token(TokenizerData& data, int32_t id, std::string_view spelling, const std::string& where) {
  const auto index = static_cast<size_t>(id);
  if (spelling.empty()) throw Error(ExitCode::kData, where, "token " + std::to_string(id) + " is empty");
  if (data.spelling.size() <= index) {
    data.spelling.resize(index + 1);
    data.special.resize(index + 1);
    data.added.resize(index + 1);
  }
  if (!data.spelling[index].empty()) {
    throw Error(ExitCode::kData, where,
                "two tokens have id " + std::to_string(id) + " (" + printable(data.spelling[index]) +
                    " and " + printable(spelling) + ")");
  }
  if (!data.by_spelling.insert(spelling, id)) {
    throw Error(ExitCode::kData, where,
                "token " + printable(spelling) + " has two ids (" +
                    std::to_string(data.by_spelling.find(spelling)) + " and " + std::to_string(id) + ")");
  }
  data.spelling[index] = spelling;
}

void register_added_token(TokenizerData& data, const AddedToken& token, const std::string& where) {
  if (token.content.size() > kMaxAddedToken) {
    throw Error(ExitCode::kData, where,
                "added token too long" + expected_got("at most " + std::to_string(kMaxAddedToken) + " bytes",
                                                      token.content.size()));
  }
  if (data.by_spelling.find(token.content) != token.id) register_token(data, token.id, token.content, where);
  data.special[static_cast<size_t>(token.id)] = token.special ? 1 : 0;
  data.added[static_cast<size_t>(token.id)] = 1;
  if (token.normalized) {
    data.normalized_added.add(token, normalize(data.normalizers, token.content));
  } else {
    data.raw_added.add(token, token.content);
  }
}

void finish_tokenizer(TokenizerData& data) {
  data.bytes.resize(data.spelling.size());
  for (size_t id = 0; id < data.spelling.size(); ++id) {
    const std::string& spelling = data.spelling[id];
    std::string& bytes = data.bytes[id];
    const int byte = data.byte_level ? -1 : byte_of_fallback(spelling);
    if (byte >= 0) {
      bytes = std::string(1, static_cast<char>(byte));
    } else if (!data.byte_level) {
      bytes = replace_all(spelling, "\xe2\x96\x81", " ");
    } else if (!to_bytes(spelling, bytes)) {
      bytes = spelling;
    }
  }
  data.bpe.finish(data.byte_level ? data.bytes : data.spelling);
}

AddedToken special_token(const JsonView& value) {
  AddedToken token;
  token.special = true;
  if (!value.is_object()) {
    token.content = value.is_null() ? "" : value.as_string();
    return token;
  }
  token.content = value.at("content").as_string();
  token.single_word = value.bool_or("single_word", false);
  token.lstrip = value.bool_or("lstrip", false);
  token.rstrip = value.bool_or("rstrip", false);
  token.normalized = value.bool_or("normalized", false);
  return token;
}

std::map<std::string, AddedToken> read_special_tokens(const std::string& directory) {
  std::map<std::string, AddedToken> tokens;
  const std::string config = join_path(directory, "tokenizer_config.json");
  const std::string map = join_path(directory, "special_tokens_map.json");
  bool decoder = false;
  for (const std::string& path : {config, map}) {
    if (!is_there(path) || decoder) continue;
    const JsonDocument document = JsonDocument::read(path);
    const JsonView root = document.root().as_object();
    decoder = root.has_value("added_tokens_decoder");
    for (const char* name : kSpecialTokens) {
      if (root.has(name)) tokens[name] = special_token(root.at(name));
    }
  }
  return tokens;
}

TokenizerConfig read_tokenizer_config(const std::string& directory) {
  TokenizerConfig config;
  config.specials = read_special_tokens(directory);
  config.bos_token = config.specials["bos_token"].content;
  config.eos_token = config.specials["eos_token"].content;
  const std::string path = join_path(directory, "tokenizer_config.json");
  if (!is_there(path)) return config;
  const JsonDocument document = JsonDocument::read(path);
  const JsonView root = document.root().as_object();
  config.add_bos_token = root.bool_or("add_bos_token", true);
  config.add_eos_token = root.bool_or("add_eos_token", false);
  if (!root.has_value("added_tokens_decoder")) return config;
  const JsonView added = root.at("added_tokens_decoder").as_object();
  for (const auto& [key, value] : added.value().items()) {
    const JsonView fields = added.at(key).as_object();
    if (key.empty() || key.size() > 7 || key.find_first_not_of("0123456789") != std::string::npos) {
      fields.fail("key is not a token id");
    }
    AddedToken token = special_token(fields);
    token.id = std::stoi(key);
    token.special = fields.bool_or("special", false);
    config.added_tokens.push_back(std::move(token));
  }
  return config;
}

}  // namespace eep
