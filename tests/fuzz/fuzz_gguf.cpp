// GGUF files: the container, the mapping of its tensors, its tokenizer.
#include "loaders/models/gguf_convert.h"
#include "loaders/text/gguf_tokenizer.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eep::GgufFile file;
  if (!fuzz::accepts([&] { file = eep::parse_gguf(data, size, "f.gguf"); })) return 0;
  fuzz::accepts([&] {
    eep::ConvertedModel model = eep::convert_gguf(file, eep::gguf_natural_dtype(file));
    if (model.dense_llama) eep::make_one_expert(model);
    for (const eep::StreamedTensor& tensor : model.tensors) {
      size_t bytes = 0;
      tensor.produce([&](const void*, size_t part) { bytes += part; });
      fuzz::demand(bytes == eep::tensor_bytes(tensor.spec), "a tensor has another size");
    }
  });
  fuzz::accepts([&] { eep::gguf_tokenizer(file); });
  return 0;
}
