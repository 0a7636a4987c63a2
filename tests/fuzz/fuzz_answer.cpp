// Extraction rules and normalisers on any text a model may write. The first byte chooses the rule.
#include "loaders/tasks/extract.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  static const char* const kRules[] = {"none",        "first_capital", "first_option(ABCD)",
                                       "last_number", "first_line",    "squad"};
  eep::ExtractRule rule;
  fuzz::demand(eep::parse_extract(kRules[data[0] % 6], &rule), "a rule is unknown");
  const std::string text = fuzz::text_of(data + 1, size - 1);
  eep::extract_answer(rule, text);
  eep::general_normalise(text);
  eep::squad_normalise(text);
  eep::parse_extract(text, &rule);
  return 0;
}
