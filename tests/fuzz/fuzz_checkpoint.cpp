// A config.json that need not fit the tensors beside it.
#include "loaders/models/checkpoint.h"
#include "tests/fuzz/small_checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::SmallCheckpoint scratch("qwen2_bf16", 2, 11, 2);
  scratch.write("config.json", data, size);
  fuzz::accepts([&] { eep::load_checkpoint(scratch.path()); });
  return 0;
}
