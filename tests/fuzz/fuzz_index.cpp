// model.safetensors.index.json over the shards of a checkpoint.
#include "loaders/models/checkpoint.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const fuzz::Scratch scratch("mixtral_window", "model.safetensors.index.json");
  scratch.write("model.safetensors.index.json", data, size);
  fuzz::accepts([&] { eep::load_checkpoint(scratch.path()); });
  return 0;
}
