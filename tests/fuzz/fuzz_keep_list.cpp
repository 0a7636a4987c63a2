// Lists of kept experts: what is accepted is written and read again to the same list.
#include "loaders/models/keep_list.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  eep::ModelConfig config;
  config.num_layers = 4;
  config.num_experts = 5;
  config.top_k = 2;
  config.sparse = {1, 0, 1, 1};
  const std::string text = fuzz::text_of(data, size);
  for (const int32_t count : {0, 2}) {
    eep::KeepList list;
    if (!fuzz::accepts([&] { list = eep::parse_keep_list(text, "kept.json", config, count); })) continue;
    const std::string written = eep::format_keep_list(eep::keep_list_plan(list, 5, 2));
    fuzz::demand(eep::parse_keep_list(written, "again", config, count) == list,
                 "a keep list changes when read again");
  }
  return 0;
}
