// MergeBuffer: a bounded store of merged experts. A row of W_EM is merged once for all candidates that hold
// it, and kept as long as there is room.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/ops.h"
#include "engine/weights.h"

namespace eep {

// A row of W_EM and its number among the distinct ones of its layer (LayerVariant::merged_id).
struct MergedRow {
  int32_t id;
  const float* coefficient;  // [experts]
};

// What merging moved.
struct MergeCounts {
  int64_t experts = 0;  // made
  int64_t read_bytes = 0, written_bytes = 0;
};

class MergeBuffer {
 public:
  // slots: merged experts that fit at once (memory plan).
  MergeBuffer(const Weights& weights, int64_t slots);
  ~MergeBuffer();
  MergeBuffer(const MergeBuffer&) = delete;
  MergeBuffer& operator=(const MergeBuffer&) = delete;

  // Bytes of one merged expert.
  static size_t slot_bytes(const ModelConfig& config, const Ops& ops);
  int64_t slots() const { return slots_; }
  // Merged experts of a layer for the given rows of W_EM, at most slots() distinct ones; what is missing is
  // made in one read of the base experts. The result is valid until the next call.
  std::vector<ExpertMatrices> merge(int64_t layer, std::span<const MergedRow> rows);
  // Begins to merge rows of the same kind beside what the device is given until merge() or the next begin(),
  // which must not use merged experts. For backends that can (Ops::fork_beside).
  void begin(int64_t layer, std::span<const MergedRow> rows);
  bool holds(int64_t layer, int32_t id) const;
  const MergeCounts& counts() const { return counts_; }

 private:
  ExpertMatrices slot(int64_t index) const;
  // Slots for rows; those that are not merged yet are, on `device`.
  std::vector<ExpertMatrices> fill(int64_t layer, std::span<const MergedRow> rows, const Device& device);
  int64_t& slot_of(int64_t layer, int32_t id);
  void join();

  const Weights& weights_;
  const Ops& ops_;
  Device device_;
  int64_t slots_;
  size_t slot_bytes_;
  DeviceBuffer storage_;
  std::vector<std::vector<int64_t>> slot_of_;  // [layer][id], -1: not merged
  int64_t used_ = 0;                           // slots
  MergeCounts counts_;
  bool beside_ = false;  // work of begin() may be under way
};

}  // namespace eep
