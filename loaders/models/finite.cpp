#include "loaders/models/finite.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/common/error.h"
#include "loaders/formats/safetensors.h"
#include "loaders/models/scaled_range.h"

namespace eep {

namespace {

constexpr size_t kBlock = size_t{1} << 18;  // elements
constexpr size_t kParallel = 16;            // blocks that are worth a thread
constexpr unsigned kThreads = 16;

// A block has none where no element has all bits of the exponent.
template <typename Bits>
bool block_finite(const uint8_t* data, size_t count, Bits exponent) {
  Bits found = 0;  // as wide as an element: one instruction compares a vector of them
  for (size_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, data + i * sizeof bits, sizeof bits);
    found = static_cast<Bits>(found | ((bits & exponent) == exponent));
  }
  return found == 0;
}

bool block_finite(const uint8_t* data, size_t count, DType dtype, Code code) {
  if (code == Code::kE4M3) return block_finite<uint8_t>(data, count, 0x7f);
  if (code == Code::kByte) return true;
  if (code == Code::kE8M0) return block_finite<uint8_t>(data, count, 0xff);
  if (dtype == DType::kF32) return block_finite<uint32_t>(data, count, 0x7f800000u);
  return block_finite<uint16_t>(data, count, dtype == DType::kBF16 ? 0x7f80 : 0x7c00);
}

struct Values {
  const uint8_t* data;
  size_t count;
  DType dtype;  // where it is not coded
  Code code;

  const uint8_t* at(size_t element) const {
    return data + element * (code == Code::kNone ? dtype_size(dtype) : 1);
  }
};

struct Place {
  size_t tensor, element;
};

// The first element of the first tensor that has one. Threads take blocks of all tensors in their order, so
// the first that is found is the least; small tensors are shared out as well as large ones.
std::optional<Place> first_place(std::span<const Values> tensors) {
  std::vector<size_t> first_block{0};  // of each tensor, and the end
  for (const Values& values : tensors)
    first_block.push_back(first_block.back() + (values.count + kBlock - 1) / kBlock);
  const size_t blocks = first_block.back();
  const auto place_of = [&](size_t block) {
    const auto after = std::upper_bound(first_block.begin(), first_block.end(), block);
    const auto tensor = static_cast<size_t>(after - first_block.begin()) - 1;
    return Place{tensor, (block - first_block[tensor]) * kBlock};
  };
  std::atomic<size_t> next{0}, first{blocks};
  const auto work = [&] {
    for (size_t block; (block = next++) < first;) {
      const auto [tensor, begin] = place_of(block);
      const Values& values = tensors[tensor];
      if (block_finite(values.at(begin), std::min(kBlock, values.count - begin), values.dtype, values.code))
        continue;
      size_t known = first;
      while (block < known && !first.compare_exchange_weak(known, block)) {
      }
    }
  };
  std::vector<std::thread> others;
  const size_t threads =
      std::min<size_t>({std::thread::hardware_concurrency(), kThreads, blocks / kParallel});
  for (size_t i = 1; i < threads; ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  if (first == blocks) return std::nullopt;
  Place place = place_of(first);
  const Values& values = tensors[place.tensor];
  while (block_finite(values.at(place.element), 1, values.dtype, values.code)) ++place.element;
  return place;
}

}  // namespace

Code code_of(const SafetensorsEntry& entry) {
  const Code code = code_named(entry.dtype);
  return code == Code::kByte && entry.name.ends_with("_scales") ? Code::kE8M0 : code;
}

size_t first_not_finite(const void* data, size_t count, DType dtype, Code code) {
  const Values values{static_cast<const uint8_t*>(data), count, dtype, code};
  const std::optional<Place> place = first_place(std::span(&values, 1));
  return place ? place->element : count;
}

std::string not_finite_text(const std::string& name, const int64_t* shape, size_t rank, size_t element) {
  std::string whose;
  if (rank == 3 && name.find(".experts.") != std::string::npos) {
    whose = fmt::format(" (of expert {})", element / static_cast<size_t>(shape[1] * shape[2]));
  }
  return fmt::format("element {}{} is not finite", element, whose);
}

void require_finite(const RawModel& model) {
  std::vector<SafetensorsEntry> entries;
  std::vector<Values> tensors;
  for (const MappedFile& file : model.files) {
    for (SafetensorsEntry& entry : parse_safetensors(file.data(), file.size(), file.path()).entries) {
      if (entry.name.ends_with(".rotary_emb.inv_freq")) continue;
      const DType dtype = entry.dtype == "F32"   ? DType::kF32
                          : entry.dtype == "F16" ? DType::kF16
                                                 : DType::kBF16;
      const Code code = code_of(entry);
      const size_t size = code == Code::kNone ? dtype_size(dtype) : 1;
      tensors.push_back({file.data() + entry.offset, entry.bytes / size, dtype, code});
      entries.push_back(std::move(entry));
    }
  }
  const std::optional<Place> place = first_place(tensors);
  const auto refuse = [](const std::string& name, const std::string& detail) {
    throw Error(ExitCode::kData, name, detail,
                "the file is damaged, or was converted badly: fetch or convert it again");
  };
  if (place) {
    const SafetensorsEntry& entry = entries[place->tensor];
    refuse(entry.name, not_finite_text(entry.name, entry.shape.data(), entry.shape.size(), place->element));
  }
  if (const auto beyond = first_out_of_range(model)) refuse(beyond->tensor, beyond->detail);
}

}  // namespace eep
