// Rank files (*.tiktoken): whatever loads also encodes and decodes.
#include "loaders/text/tokenizer.h"
#include "tests/fuzz/fuzz_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Scratch scratch;
  scratch.write("qwen.tiktoken", data, size);
  fuzz::use_tokenizer(scratch.file("qwen.tiktoken"));
  return 0;
}
