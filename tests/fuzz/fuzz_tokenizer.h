// What the fuzzers of tokenizer files do with a file.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "loaders/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace fuzz {

inline void use_tokenizer(const std::string& path) {
  std::optional<eep::Tokenizer> tokenizer;
  if (!accepts([&] { tokenizer.emplace(eep::Tokenizer::load(path)); })) return;
  for (const char* text :
       {"", " Hello, world!  It's 1234.5\n\n", "na\xc3\xafve \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80",
        "\xff\xc3 <s></s><|endoftext|>"}) {
    std::vector<int32_t> ids;
    // A vocabulary may have neither a character nor the unknown token that the file names.
    if (!accepts([&] { ids = tokenizer->encode(text, true); })) continue;
    for (int32_t id : ids)
      demand(id >= 0 && id < tokenizer->vocab_size(), "an id lies outside the vocabulary");
    tokenizer->decode(ids, false);
    tokenizer->decode(ids, true);
  }
  tokenizer->decode(std::vector<int32_t>{-1, 0, 1, 255, 256, 1 << 30}, false);
}

}  // namespace fuzz
