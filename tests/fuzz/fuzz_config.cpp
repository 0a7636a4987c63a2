// config.json: what is accepted has dimensions that the engine can compute with; what any other model lacks
// can be said.
#include "loaders/models/config_json.h"
#include "loaders/models/support.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eep::ModelConfig config;
  const std::string text = fuzz::text_of(data, size);
  fuzz::accepts([&] {
    const eep::ModelSupport support =
        eep::model_support(eep::JsonDocument(text, "config.json").root().value());
    fuzz::demand(support.known || !support.missing.empty(), "a family is not known and lacks nothing");
  });
  if (!fuzz::accepts([&] { config = eep::parse_config(eep::JsonDocument(text, "config.json")); })) return 0;
  fuzz::demand(config.vocab_size > 0 && config.hidden_size > 0 && config.num_layers > 0, "an empty model");
  fuzz::demand(config.num_kv_heads > 0 && config.num_heads % config.num_kv_heads == 0, "heads do not divide");
  fuzz::demand(config.head_dim > 0 && config.head_dim % 2 == 0, "rotary pairs do not divide");
  fuzz::demand(config.sparse.size() == static_cast<size_t>(config.num_layers), "layers without a kind");
  fuzz::demand(config.sparse_layers() == 0 || (config.top_k > 0 && config.top_k <= config.num_experts),
               "more active experts than experts");
  fuzz::demand(config.rotary() > 0 && config.rotary() <= config.head_dim && config.rotary() % 2 == 0,
               "a rotary part");
  fuzz::demand(config.num_experts % config.router_groups == 0, "groups of experts do not divide");
  eep::count_parameters(config);
  return 0;
}
