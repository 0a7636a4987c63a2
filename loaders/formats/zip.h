// The members of a zip archive that are stored without compression, as PyTorch writes them: names and places
// from the central directory (local headers may lie about sizes), each checked against the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace eep {

struct ZipMember {
  std::string name;
  const uint8_t* data = nullptr;
  size_t size = 0;
};

// Members point into `data`. Throws Error(kData): no archive, a damaged one, compressed, encrypted or 64-bit
// members.
std::vector<ZipMember> read_zip(const uint8_t* data, size_t size, const std::string& where);

}  // namespace eep
