// PyTorch's .pth files that hold a dictionary of float tensors, or a pair of one and a number. The pickle
// inside is a program for a stack machine; only the opcodes and the three names that such a dictionary needs
// are known here, nothing is called, and anything else is refused by its name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace eep {

struct PthTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;  // row-major
};

struct PthFile {
  std::vector<PthTensor> tensors;  // in the order of the dictionary
  std::optional<double> metric;    // the pair's second part
};

PthFile parse_pth(const uint8_t* data, size_t size, const std::string& where);
PthFile read_pth(const std::string& path);

}  // namespace eep
