// The files beside a tokenizer, with NUL between them: tokenizer_config.json, special_tokens_map.json,
// added_tokens.json, generation_config.json; an empty one is not there. Every kind of tokenizer that loads
// with them encodes and decodes, the model's special tokens lie in its vocabulary, and a template renders.
#include <algorithm>
#include <array>

#include "loaders/models/config_json.h"
#include "loaders/text/chat_template.h"
#include "tests/fuzz/fuzz_tokenizer.h"

namespace {

constexpr std::array kFiles{"tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
                            "generation_config.json"};
constexpr std::array kTokenizers{"tokenizer_json/tiny.json", "tokenizer_json/fallback.json",
                                 "tokenizer_tiktoken/tiny.tiktoken", "tokenizer_model/full.model"};

// A directory of links to small tokenizers and to the configuration of a model.
class Model : public fuzz::Scratch {
 public:
  Model() {
    const std::filesystem::path tests = std::filesystem::path(EEP_SOURCE_DIR) / "tests";
    for (const std::filesystem::path tokenizer : kTokenizers)
      link(tokenizer.filename(), tests / "fuzz/corpus" / tokenizer);
    link("config.json", tests / "golden/mixtral_window/config.json");
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Model model;
  for (const char* name : kFiles) {
    const uint8_t* const end = std::find(data, data + size, uint8_t{0});
    const auto length = static_cast<size_t>(end - data);
    length == 0 ? model.remove(name) : model.write(name, data, length);
    data += std::min(length + 1, size);
    size -= std::min(length + 1, size);
  }
  for (const std::filesystem::path tokenizer : kTokenizers)
    fuzz::use_tokenizer(model.file(tokenizer.filename()));
  fuzz::accepts([&] {
    const eep::ModelConfig config = eep::read_config(model.path());
    for (const int32_t id : config.eos_token_ids)
      fuzz::demand(id >= 0 && id < config.vocab_size, "an end of sequence outside the vocabulary");
    fuzz::demand(config.bos_token_id < config.vocab_size, "a begin of sequence outside the vocabulary");
  });
  fuzz::accepts([&] {
    if (const auto chat = eep::find_chat_template(model.path())) eep::render_chat(*chat, {{"user", "a"}});
  });
  return 0;
}
