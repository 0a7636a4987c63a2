// config.json: what is accepted has dimensions that the engine can compute with.
#include "loaders/models/config_json.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eep::ModelConfig config;
  const std::string text = fuzz::text_of(data, size);
  if (!fuzz::accepts([&] { config = eep::parse_config(eep::JsonDocument(text, "config.json")); })) return 0;
  fuzz::demand(config.vocab_size > 0 && config.hidden_size > 0 && config.num_layers > 0, "an empty model");
  fuzz::demand(config.num_kv_heads > 0 && config.num_heads % config.num_kv_heads == 0, "heads do not divide");
  fuzz::demand(config.head_dim > 0 && config.head_dim % 2 == 0, "rotary pairs do not divide");
  fuzz::demand(config.sparse.size() == static_cast<size_t>(config.num_layers), "layers without a kind");
  fuzz::demand(config.sparse_layers() == 0 || (config.top_k > 0 && config.top_k <= config.num_experts),
               "more active experts than experts");
  eep::count_parameters(config);
  return 0;
}
