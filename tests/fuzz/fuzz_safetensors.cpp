// safetensors headers: every accepted entry lies inside the file. An input that starts with a brace is a
// header up to its first NUL and the data after it, with the length put before it here.
#include <cstring>

#include "loaders/formats/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string file = fuzz::text_of(data, size);
  if (size > 0 && data[0] == '{') {
    size_t length = file.find('\0');
    if (length == std::string::npos) {
      length = file.size();
    } else {
      file.erase(length, 1);
    }
    std::string prefix(8, '\0');
    const uint64_t bytes = length;
    std::memcpy(prefix.data(), &bytes, sizeof bytes);
    file.insert(0, prefix);
  }
  eep::SafetensorsHeader header;
  const auto* begin = reinterpret_cast<const uint8_t*>(file.data());
  if (!fuzz::accepts([&] { header = eep::parse_safetensors(begin, file.size(), "fuzz.safetensors"); }))
    return 0;
  for (const eep::SafetensorsEntry& entry : header.entries) {
    fuzz::demand(entry.offset <= file.size() && entry.bytes <= file.size() - entry.offset,
                 "an entry ends outside the file");
  }
  return 0;
}
