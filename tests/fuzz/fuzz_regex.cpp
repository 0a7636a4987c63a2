// Regular expressions of task files on any text: what compiles ends, and its matches lie in the text. The
// first byte says how long the expression is.
#include <algorithm>

#include "loaders/tasks/regex.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const size_t length = std::min<size_t>(data[0], size - 1);
  const std::string expression = fuzz::text_of(data + 1, length);
  const std::string text = fuzz::text_of(data + 1 + length, size - 1 - length);
  try {
    const eep::Regex regex(expression);
    for (const eep::Regex::Match& match : regex.find_all(text)) {
      for (const auto& [begin, end] : match)
        fuzz::demand(begin == std::string::npos || (begin <= end && end <= text.size()), "a match outside");
    }
  } catch (const eep::RegexError&) {
  } catch (const eep::Error&) {
  }
  return 0;
}
