// JSON: what is accepted survives being written and read again.
#include "loaders/formats/json.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text = fuzz::text_of(data, size);
  eep::Json value;
  if (!fuzz::accepts([&] { value = eep::parse_json(text, "fuzz.json"); })) return 0;
  const std::string written = value.dump();
  fuzz::demand(eep::parse_json(written, "again").dump() == written, "JSON changes when read again");
  return 0;
}
