// What a tokenizer file says, in the form in which Tokenizer runs it. Filled by one reader a format.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/text/added_tokens.h"
#include "loaders/text/bpe.h"
#include "loaders/text/pretokenizer.h"
#include "loaders/text/token_table.h"

namespace eep {

class JsonView;

struct Normalizer {
  enum class Kind : uint8_t { kNfc, kPrepend, kReplace };
  Kind kind = Kind::kNfc;
  std::string pattern;  // replaced
  std::string content;  // prepended, or put in the pattern's place
};

struct DecoderStep {
  enum class Kind : uint8_t { kByteLevel, kReplace, kByteFallback, kFuse, kStrip, kMetaspace };
  Kind kind = Kind::kByteLevel;
  std::string pattern, content;  // replace; pattern: the blank of a metaspace, the character stripped
  int64_t start = 0, stop = 0;   // strip: at most so many characters
  bool drop_first = false;       // metaspace: the first token's blanks vanish
};

struct TokenizerData {
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  std::vector<DecoderStep> decoder;  // empty: tokens joined by spaces
  bool has_decoder = false;

  Bpe bpe;
  bool byte_level = false;
  std::vector<std::string> spelling;  // [ids] as the file writes tokens; "" for no token
  std::vector<std::string> bytes;     // [ids] what they stand for
  std::vector<uint8_t> special;       // [ids]
  std::vector<uint8_t> added;         // [ids] 1: cut out of a text before BPE
  TokenTable by_spelling;

  AddedTokenMatcher raw_added;          // matched before normalisation
  AddedTokenMatcher normalized_added;   // matched after
  std::vector<int32_t> prefix, suffix;  // added by the post-processor
  int32_t bos_id = -1, eos_id = -1;
  std::string description;
};

inline constexpr int64_t kMaxVocabulary = int64_t{1} << 21;
inline constexpr size_t kMaxAddedToken = 1024;  // bytes

std::string normalize(const std::vector<Normalizer>& normalizers, std::string_view text);
std::string decode_tokens(const TokenizerData& data, const std::vector<std::string>& tokens);

// The character with which byte-level tokenizers write a byte, and back.
uint32_t byte_to_character(uint8_t byte);
bool to_bytes(std::string_view spelling, std::string& bytes);  // false: a character stands for no byte

// Puts `token` into spelling, special and the matchers; throws kData (at `where`) on contradictions.
void register_token(TokenizerData& data, int32_t id, std::string_view spelling, const std::string& where);
void register_added_token(TokenizerData& data, const AddedToken& token, const std::string& where);
// Fills `bytes`, finishes the BPE. The last step of every reader.
void finish_tokenizer(TokenizerData& data);

TokenizerData read_tokenizer_json(const std::string& path);
TokenizerData read_tokenizer_model(const std::string& path);     // SentencePiece
TokenizerData read_tokenizer_tiktoken(const std::string& path);  // Qwen's ranks

inline constexpr const char* kSpecialTokens[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                                 "pad_token", "cls_token", "mask_token"};

// Of tokenizer_config.json, by name; unless it has an added_tokens_decoder, special_tokens_map.json goes
// before it, as in transformers.
std::map<std::string, AddedToken> read_special_tokens(const std::string& directory);

// bos_id and eos_id, and for formats without them added tokens, from tokenizer_config.json where it exists.
struct TokenizerConfig {
  std::map<std::string, AddedToken> specials;  // by name; content "": none
  std::string bos_token, eos_token;
  bool add_bos_token = true, add_eos_token = false;
  std::vector<AddedToken> added_tokens;
};
// A special token of a side file: its text, or an object with its flags.
AddedToken special_token(const JsonView& value);
TokenizerConfig read_tokenizer_config(const std::string& directory);

}  // namespace eep
