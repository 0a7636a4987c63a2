#include "loaders/finite.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/error.h"
#include "loaders/safetensors.h"

namespace eep {

namespace {

constexpr size_t kBlock = size_t{1} << 16;  // elements
constexpr size_t kParallel = 64;            // blocks that are worth a thread
constexpr unsigned kThreads = 16;

// A block has none where no element has all bits of the exponent.
template <typename Bits>
bool block_finite(const uint8_t* data, size_t count, Bits exponent) {
  unsigned found = 0;
  for (size_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, data + i * sizeof bits, sizeof bits);
    found |= static_cast<unsigned>((bits & exponent) == exponent);
  }
  return found == 0;
}

bool block_finite(const uint8_t* data, size_t count, DType dtype) {
  if (dtype == DType::kF32) return block_finite<uint32_t>(data, count, 0x7f800000u);
  return block_finite<uint16_t>(data, count, dtype == DType::kBF16 ? 0x7f80 : 0x7c00);
}

}  // namespace

size_t first_not_finite(const void* data, size_t count, DType dtype) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  const size_t size = dtype_size(dtype), blocks = (count + kBlock - 1) / kBlock;
  std::atomic<size_t> next{0}, first{blocks};
  const auto work = [&] {
    for (size_t block;
         (block = next++) < first;) {  // blocks are taken in order: the first found is the least
      const size_t begin = block * kBlock, length = std::min(kBlock, count - begin);
      if (block_finite(bytes + begin * size, length, dtype)) continue;
      size_t known = first;
      while (block < known && !first.compare_exchange_weak(known, block)) {
      }
    }
  };
  std::vector<std::thread> others;
  if (blocks >= kParallel) {
    for (unsigned i = 1; i < std::min(std::thread::hardware_concurrency(), kThreads); ++i)
      others.emplace_back(work);
  }
  work();
  for (std::thread& other : others) other.join();
  size_t at = first * kBlock;
  while (at < count && block_finite(bytes + at * size, 1, dtype)) ++at;
  return std::min(at, count);
}

std::string not_finite_text(const std::string& name, const int64_t* shape, size_t rank, size_t element) {
  std::string whose;
  if (rank == 3 && name.find(".experts.") != std::string::npos) {
    whose = fmt::format(" (of expert {})", element / static_cast<size_t>(shape[1] * shape[2]));
  }
  return fmt::format("element {}{} is not finite", element, whose);
}

void require_finite(const RawModel& model) {
  for (const MappedFile& file : model.files) {
    for (const SafetensorsEntry& entry : parse_safetensors(file.data(), file.size(), file.path()).entries) {
      if (entry.name.ends_with(".rotary_emb.inv_freq")) continue;
      const DType dtype = entry.dtype == "F32"   ? DType::kF32
                          : entry.dtype == "F16" ? DType::kF16
                                                 : DType::kBF16;
      const size_t count = entry.bytes / dtype_size(dtype);
      const size_t element = first_not_finite(file.data() + entry.offset, count, dtype);
      if (element == count) continue;
      throw Error(ExitCode::kData, entry.name,
                  not_finite_text(entry.name, entry.shape.data(), entry.shape.size(), element),
                  "the file is damaged, or was converted badly: fetch or convert it again");
    }
  }
}

}  // namespace eep
