// A config.json that need not fit the tensors beside it.
#include "loaders/models/checkpoint.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Scratch scratch("qwen2_bf16", "config.json");
  scratch.write("config.json", data, size);
  fuzz::accepts([&] { eep::load_checkpoint(scratch.path()); });
  return 0;
}
