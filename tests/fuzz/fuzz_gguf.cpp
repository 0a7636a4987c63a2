// GGUF files: the container, the mapping of its tensors, its tokenizer, and what is left of it without some
// experts.
#include "loaders/models/gguf_convert.h"
#include "loaders/models/gguf_prune.h"
#include "loaders/text/gguf_tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace {

// What is left after the last expert of every layer went is a file of one expert less.
void prune(const uint8_t* data, size_t size) {
  const eep::GgufFile file = eep::parse_gguf(data, size, "f.gguf", eep::GgufTensors::kStored);
  const std::string prefix = file.text("general.architecture") + ".";
  const auto experts = static_cast<int32_t>(file.integer(prefix + "expert_count", 2, eep::kMaxExperts));
  std::vector<int32_t> layers, kept;
  for (int32_t layer = 0; layer < file.integer(prefix + "block_count", 1, 64); ++layer)
    layers.push_back(layer);
  for (int32_t expert = 0; expert + 1 < experts; ++expert) kept.push_back(expert);
  eep::GgufPruning pruning;
  pruning.plan = {{eep::one_hot_group(layers, kept, experts)}, 1, eep::RouterSpace::kLogits};
  const eep::PrunedGguf pruned(file, pruning);
  std::string bytes;
  pruned.produce(
      [&](const void* part, size_t count) { bytes.append(static_cast<const char*>(part), count); });
  fuzz::demand(bytes.size() == pruned.bytes(), "a pruned file has another size");
  const eep::GgufFile left = eep::parse_gguf(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(),
                                             "p.gguf", eep::GgufTensors::kStored);
  fuzz::demand(left.integer(prefix + "expert_count", 1, eep::kMaxExperts) == experts - 1, "another count");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::accepts([&] { prune(data, size); });
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
