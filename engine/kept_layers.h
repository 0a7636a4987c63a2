// KeptLayers: residual rows that outlive a pass. A candidate whose first layers are those of an earlier one
// begins behind them. Rows are kept where plans may part: behind the last layer of a group of layers. They
// are the rows that the pass would compute again, so no bit of a result depends on what is kept.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "engine/device_buffer.h"
#include "engine/expert_plan.h"
#include "engine/prompt_chunks.h"

namespace eep {

// 128 bits of a hash (XXH3).
struct RowsHash {
  uint64_t high = 0, low = 0;
  auto operator<=>(const RowsHash&) const = default;
};

// Of the tokens, their positions and what each may see.
RowsHash hash_of(const PromptChunk& chunk);

// What the rows of every candidate behind every layer depend on, apart from the prompts.
class PlanPrefixes {
 public:
  PlanPrefixes(const std::vector<uint8_t>& sparse, std::span<const ExpertPlan> plans);
  // Equal where all layers up to this one are.
  const RowsHash& hash(int64_t layer, size_t candidate) const {
    return hashes_[static_cast<size_t>(layer)][candidate];
  }
  // The next layer begins another group of the plan.
  bool parts(int64_t layer, size_t candidate) const {
    return parts_[static_cast<size_t>(layer)][candidate] != 0;
  }
  // Streams of these candidates behind a layer.
  int64_t distinct(int64_t layer, std::span<const size_t> candidates) const;

 private:
  std::vector<std::vector<RowsHash>> hashes_;  // [layers][candidates]
  std::vector<std::vector<uint8_t>> parts_;    // [layers][candidates]
};

class KeptLayers {
 public:
  using Rows = std::shared_ptr<const DeviceBuffer>;  // [rows, hidden] f32
  struct Key {
    RowsHash chunk, plan;
    auto operator<=>(const Key&) const = default;
  };

  explicit KeptLayers(const Backend& backend) : backend_(backend) {}

  // A new pass, with so much memory; what lies above it is given up, the least valuable first: what the most
  // recent passes used stays, of one pass what saves the most layers.
  void begin_pass(size_t bytes);
  Rows find(const Key& key);  // null: not kept
  // Copies the rows behind `layer`, if there is room for them at all.
  void keep(const Key& key, int64_t layer, const float* rows, size_t bytes);
  size_t bytes() const { return bytes_; }

 private:
  struct Entry {
    std::shared_ptr<DeviceBuffer> rows;
    int64_t pass = 0, layer = 0;
  };
  // Makes room; the memory of what was given up last, where it has that size and nobody reads it.
  std::shared_ptr<DeviceBuffer> make_room(size_t bytes);

  Backend backend_;
  size_t limit_ = 0, bytes_ = 0;
  int64_t pass_ = 0;
  std::map<Key, Entry> entries_;
  // The same by value, the least first.
  std::map<std::pair<std::pair<int64_t, int64_t>, Key>, std::map<Key, Entry>::iterator> by_value_;
};

}  // namespace eep
