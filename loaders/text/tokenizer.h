// Tokenizer: text to token ids and back, equal to Hugging Face `tokenizers` id for id. BPE over bytes (GPT-2,
// Qwen) and over characters with byte fallback (SentencePiece, Mixtral), from tokenizer.json, else
// tokenizer.model, else *.tiktoken. Whatever such a file asks for that is not implemented is refused by name.
//
// Immutable after load, so one object serves all threads. Time is linear-logarithmic in the length of the
// text.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace eep {

struct TokenizerData;  // loaders/text/tokenizer_data.h

class Tokenizer {
 public:
  // A model directory, or one of the files above. Throws kNoInput when there is none, kData when malformed.
  static Tokenizer load(const std::string& model_directory);
  static bool exists(const std::string& model_directory);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Invalid UTF-8 is read as U+FFFD, one for each maximal invalid part. add_special: what the post-processor
  // adds (Mixtral: <s>). Special tokens spelled in the text are recognised either way.
  std::vector<int32_t> encode(std::string_view text, bool add_special) const;

  // Ids outside the vocabulary (models pad theirs) give nothing. skip_special leaves special tokens out.
  std::string decode(std::span<const int32_t> ids, bool skip_special) const;

  int64_t vocab_size() const;                     // largest id + 1
  std::string_view token_text(int32_t id) const;  // as the file spells it ("Ġthe", "▁the"); empty: no such id
  std::string_view token_bytes(int32_t id) const;  // the bytes it stands for (" the"); empty: no such id
  int32_t token_id(std::string_view text) const;   // by spelling; -1: none
  bool is_special(int32_t id) const;
  int32_t bos_id() const;                  // -1: none
  int32_t eos_id() const;                  // -1: none
  const std::string& description() const;  // "byte-level BPE, 151646 tokens, tokenizer.json"

 private:
  explicit Tokenizer(std::unique_ptr<const TokenizerData> data);
  std::unique_ptr<const TokenizerData> data_;
};

}  // namespace eep
