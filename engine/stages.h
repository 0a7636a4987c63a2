// Stages: a model's layers divided over several processes, each of which holds a run of neighbouring layers
// and no other weights. All stages call the same function with the same plans and prompts; the first one
// decides what is done, chunk by chunk, and what the others need to know of it goes ahead of the rows.
// Residual rows pass from stage to stage, scores from the last one to the first, so while a stage has a chunk
// the one before it has the next. Every row is computed by the same ops in the same order as in one process,
// so no bit depends on stages.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config.h"
#include "engine/expert_plan.h"
#include "engine/ops.h"
#include "engine/prompts.h"
#include "kernels/common/device.h"

namespace eep {

struct CalibrationOptions;

// [stages] such that the largest stage's packed weights are as few bytes as can be, the embedding counted
// where the backend copies it, the vocabulary with the last layer. Throws Error(kUsage) if there are fewer
// layers.
std::vector<LayerRange> divide_layers(const ModelConfig& config, const Ops& ops, int stages);

// What the first stage is about to do, told to the others, which then do the same.
struct StageCall {
  enum class Kind : uint8_t { kScore, kGenerate, kCalibrate, kRatios } kind = Kind::kScore;
  std::span<const ExpertPlan> plans{};          // of kScore, kGenerate and kRatios
  const Prompts* prompts = nullptr;             // of kScore and kRatios; of kCalibrate, or null: parts follow
  const CalibrationOptions* options = nullptr;  // of kCalibrate
};

// How one stage reaches the others.
class StageLink {
 public:
  virtual ~StageLink() = default;
  virtual int stage() const = 0;                              // 0: the first
  virtual const std::vector<LayerRange>& layers() const = 0;  // [stages], 2 or more
  // Bytes that each stage has for activations, merged experts and caches; 0: unlimited. The same at all
  // stages.
  virtual size_t least_room() const = 0;

  // Of the first stage.
  virtual void announce(const StageCall& call) = 0;
  // Messages between two stages arrive in their order. receive throws Interrupted, and Error where a stage is
  // lost.
  virtual void send(int stage, std::string bytes) = 0;
  virtual std::string receive(int stage) = 0;

  // Rows of the residual stream, [floats] in device memory, in their order beside the messages. Begins to
  // send them: until await_rows() has returned the memory is neither written nor given back.
  virtual void send_rows(int stage, const float* rows, int64_t floats) = 0;
  // Until all rows that were sent are gone, or the stage that should take them is lost: what follows then
  // throws. A stage that leaves takes what has been sent to it, so that nobody waits longer than for a chunk.
  virtual void await_rows() noexcept = 0;
  // Throws Interrupted where nothing has arrived, and Error where a stage is lost or has sent other rows.
  virtual void receive_rows(int stage, float* rows, int64_t floats) = 0;

  int stages() const { return static_cast<int>(layers().size()); }
  bool first() const { return stage() == 0; }
  bool last() const { return stage() + 1 == stages(); }
};

// A message between stages: a list of numbers, and what follows it.
std::string header_message(std::span<const int64_t> header);
std::vector<int64_t> take_header(std::string_view message);
std::string_view after_header(std::string_view message);

// Values without pointers, as bytes and back.
template <typename T>
std::string bytes_of(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}
template <typename T>
std::vector<T> values_of(std::string_view bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

}  // namespace eep
