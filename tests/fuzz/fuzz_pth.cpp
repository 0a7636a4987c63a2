// Coefficient files: the archive, the pickle inside (an input that is no archive is tried as a bare pickle
// between two storages) and the plan that results.
#include <cmath>

#include "loaders/models/coefficients.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::string number(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += i < 8 ? static_cast<char>(value >> (8 * i)) : '\0';
  return text;
}

std::string archive(const std::string& pickle) {
  std::string file, directory;
  const std::string storage(64, '\0');
  for (const auto& [name, bytes] : {std::pair{std::string("r/data.pkl"), pickle}, {"r/data/0", storage}}) {
    directory += number(0x02014b50, 4) + number(0, 16) + number(bytes.size(), 4) + number(bytes.size(), 4) +
                 number(name.size(), 2) + number(0, 12) + number(file.size(), 4) + name;
    file += number(0x04034b50, 4) + number(0, 22) + number(name.size(), 2) + number(0, 2) + name + bytes;
  }
  return file + directory + number(0x06054b50, 4) + number(0, 4) + number(2, 2) + number(2, 2) +
         number(directory.size(), 4) + number(file.size(), 4) + number(0, 2);
}

void parse(const std::string& bytes) {
  eep::PthFile file;
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  if (!fuzz::accepts([&] { file = eep::parse_pth(data, bytes.size(), "f.pth"); })) return;
  for (const eep::PthTensor& tensor : file.tensors) {
    int64_t elements = 1;
    for (int64_t extent : tensor.shape) elements *= extent;
    fuzz::demand(static_cast<size_t>(elements) == tensor.values.size(), "a tensor has another size");
  }
  fuzz::accepts([&] {
    const eep::ExpertPlan plan = eep::coefficients_plan(file, 4, 2, "f.pth");
    fuzz::demand(!plan.groups.empty(), "a plan without groups");
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes = fuzz::text_of(data, size);
  parse(bytes);
  parse(archive(bytes));
  return 0;
}
