#include "engine/stages.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/weights.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

// The ends of so many runs of neighbours, none above `most` bytes; empty: impossible.
std::vector<int64_t> cut(const std::vector<size_t>& bytes, size_t most, size_t runs) {
  std::vector<int64_t> ends;
  size_t sum = 0;
  for (size_t layer = 0; layer < bytes.size(); ++layer) {
    const bool rest_is_due = bytes.size() - layer <= runs - 1 - ends.size();  // a layer for each run to come
    if (layer > 0 && sum > 0 && (rest_is_due || sum + bytes[layer] > most)) {
      ends.push_back(static_cast<int64_t>(layer));
      sum = 0;
    }
    sum += bytes[layer];
    if (sum > most || ends.size() >= runs) return {};
  }
  ends.push_back(static_cast<int64_t>(bytes.size()));
  return ends;
}

}  // namespace

std::vector<LayerRange> divide_layers(const ModelConfig& config, const Ops& ops, int stages) {
  const int64_t layers = config.num_layers;
  if (stages < 1 || stages > layers) {
    throw Error(ExitCode::kUsage, "--pipeline",
                "more stages than layers" + expected_got(fmt::format("1..{}", layers), stages));
  }
  std::vector<size_t> bytes;
  for (const uint8_t sparse : config.sparse) bytes.push_back(Weights::layer_bytes(config, ops, sparse != 0));
  bytes.front() += Weights::packed_bytes(config, ops, {0, 0});
  bytes.back() += Weights::packed_bytes(config, ops, {layers, layers});
  // The least that suffices is the sum of some run of neighbours: found between the largest layer and all of
  // them.
  size_t low = *std::max_element(bytes.begin(), bytes.end()), high = 0;
  for (const size_t layer : bytes) high += layer;
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (cut(bytes, middle, static_cast<size_t>(stages)).empty()) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  std::vector<LayerRange> ranges;
  int64_t begin = 0;
  for (const int64_t end : cut(bytes, low, static_cast<size_t>(stages))) {
    ranges.push_back({begin, end});
    begin = end;
  }
  return ranges;
}

std::string header_message(std::span<const int64_t> header) {
  const auto count = static_cast<int64_t>(header.size());
  return bytes_of(std::span<const int64_t>(&count, 1)) + bytes_of(header);
}

std::vector<int64_t> take_header(std::string_view message) {
  int64_t count = -1;
  if (message.size() >= sizeof count) std::memcpy(&count, message.data(), sizeof count);
  if (count < 0 || static_cast<uint64_t>(count) > message.size() / sizeof count - 1)
    throw Error(ExitCode::kRuntime, "stages", "a message that is cut off");
  return values_of<int64_t>(message.substr(sizeof count, static_cast<size_t>(count) * sizeof count));
}

std::string_view after_header(std::string_view message) {
  return message.substr((take_header(message).size() + 1) * sizeof(int64_t));
}

}  // namespace eep
