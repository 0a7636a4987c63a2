// MergeBuffer: a bounded store of merged experts. A row of W_EM is merged once for all candidates that hold
// it, and kept as long as there is room.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/ops.h"
#include "engine/weights.h"

namespace eep {

class MergeBuffer {
 public:
  // slots: merged experts that fit at once (memory plan).
  MergeBuffer(const Weights& weights, const Ops& ops, const Device& device, int64_t slots);
  ~MergeBuffer();
  MergeBuffer(const MergeBuffer&) = delete;
  MergeBuffer& operator=(const MergeBuffer&) = delete;

  // Bytes of one merged expert.
  static size_t slot_bytes(const ModelConfig& config, const Ops& ops);
  int64_t slots() const { return slots_; }
  // Merged experts of a layer for the given rows of W_EM ([experts] each), at most slots() distinct ones.
  // The result is valid until the next call.
  std::vector<ExpertMatrices> merge(int64_t layer, std::span<const float* const> rows);
  // Begins to merge rows of the same kind beside what the device is given until merge() or the next begin(),
  // which must not use merged experts. For backends that can (Ops::fork_beside).
  void begin(int64_t layer, std::span<const float* const> rows);
  int64_t merged_count() const { return merged_count_; }

 private:
  ExpertMatrices slot(int64_t index) const;
  // Slots for rows; those that are not merged yet are, on `device`.
  std::vector<ExpertMatrices> fill(int64_t layer, std::span<const float* const> rows, const Device& device);
  void join();

  const Weights& weights_;
  const Ops& ops_;
  Device device_;
  int64_t slots_;
  size_t gate_bytes_, down_bytes_, slot_bytes_;
  DeviceBuffer storage_;
  std::unordered_map<std::string, int64_t> slot_of_;  // (layer, bytes of the row) -> slot
  int64_t merged_count_ = 0;
  bool beside_ = false;  // work of begin() may be under way
};

}  // namespace eep
