// YAML: trees of values, and values set at dotted paths (--set, sweeps): path, NUL, value.
#include "loaders/formats/yaml.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text = fuzz::text_of(data, size);
  eep::YamlValue root;
  const size_t first = text.find('\0');
  if (!fuzz::accepts([&] { root = eep::parse_yaml(text.substr(0, first), "fuzz.yaml"); })) return 0;
  if (first == std::string::npos) return 0;
  const size_t second = text.find('\0', first + 1);
  if (second == std::string::npos) return 0;
  const std::string path = text.substr(first + 1, second - first - 1);
  fuzz::accepts([&] { eep::set_yaml(&root, path, text.substr(second + 1), "--set"); });
  return 0;
}
