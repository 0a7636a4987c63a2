// The tokenizer of a GGUF model's metadata as tokenizer.json and tokenizer_config.json.
#pragma once

#include "loaders/formats/gguf.h"
#include "loaders/formats/json.h"

namespace eep {

struct GgufTokenizer {
  Json tokenizer;  // tokenizer.json
  Json config;     // tokenizer_config.json: special tokens by name, chat template
};

// Byte-level BPE (tokenizer.ggml.model gpt2, with the pre-tokenizers gpt-2, smollm and qwen2) and
// SentencePiece BPE (llama). Throws Error(kData) naming what is not supported.
GgufTokenizer gguf_tokenizer(const GgufFile& file);

}  // namespace eep
