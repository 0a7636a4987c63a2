// RankStageLink: the stages of a model's layers (engine/stages.h) as neighbouring ranks, the first of which
// takes part in the run; the others do what it tells them.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/layer_stream.h"
#include "engine/stages.h"
#include "experiments/ranks/ranks.h"
#include "experiments/study/model_context.h"
#include "experiments/study/rank_messages.h"

namespace eep {

// Whether rows go to MPI as they lie in the device's memory: on CUDA where the MPI that is loaded says that
// it is CUDA-aware; else they pass through pinned memory of the host. cuda_aware: of RankTransport. setting:
// EEP_MPI_DEVICE or null; "on" and "off" decide, "auto" does not. Throws Error(kUsage) for another word, and
// for "on" where MPI says that it cannot reach the device's memory.
bool device_rows_to_mpi(DeviceKind device, std::string_view cuda_aware, const char* setting);

class RankStageLink : public StageLink {
 public:
  static constexpr int kCallTag = Ranks::kFirstTag + 8, kRowsTag = kCallTag + 1;

  // stage: this rank's, of as many as the model is divided into; the ranks beside it have the others.
  // device_rows: as device_rows_to_mpi says; other stages may do otherwise.
  RankStageLink(Ranks& ranks, int stage, int32_t combination, const ModelContext& model, bool device_rows)
      : ranks_(ranks), stage_(stage), combination_(combination), model_(model), device_rows_(device_rows) {}
  ~RankStageLink() override { ranks_.await_rows_sent(); }

  // Of the first stage: tells the others which model it is about to open, and afterwards waits until all have
  // it. Throws Error(kData) if theirs is another one.
  static void tell_model(Ranks& ranks, int stages, int32_t combination);
  void await_others(size_t own_room);
  // Of another stage: answers that, and takes over what the call says of all.
  void answer(size_t own_room);
  void set_room(uint64_t room) { room_ = static_cast<size_t>(room); }

  int stage() const override { return stage_; }
  const std::vector<LayerRange>& layers() const override { return model_.stages(); }
  size_t least_room() const override { return room_; }
  void announce(const StageCall& call) override;
  void send(int stage, std::string bytes) override {
    ranks_.send(rank_of(stage), kRowsTag, std::move(bytes));
  }
  std::string receive(int stage) override;
  void send_rows(int stage, const float* rows, int64_t floats) override;
  void await_rows() noexcept override {
    if (device_rows_) ranks_.await_rows_sent();
  }
  void receive_rows(int stage, float* rows, int64_t floats) override;

 private:
  HostBuffer take_buffer(size_t bytes);
  int rank_of(int stage) const { return ranks_.rank() - stage_ + stage; }

  Ranks& ranks_;
  int stage_;
  int32_t combination_;
  const ModelContext& model_;
  bool device_rows_;
  size_t room_ = 0;
  // Of rows that pass through the host's memory: those under way, those that were, those received last.
  std::deque<HostBuffer> sending_, sent_;
  std::optional<HostBuffer> received_;
  std::map<int, std::deque<std::string>> early_;  // from each stage, what came before it was asked for
};

// Bytes of a rank's memory that its weights leave; 0: unlimited.
size_t room_beside(const Weights& weights, size_t memory);

// Of another stage: does what the request says with its part of the model.
void compute_stage(const StageRequest& request, const ModelContext& model, PopulationForward& forward);

// What each stage of a model that is divided so would hold.
struct StageShare {
  LayerRange layers;
  size_t bytes = 0;  // packed weights
};
// Throws Error(kUsage) if there are fewer layers.
std::vector<StageShare> stage_shares(const ModelConfig& config, const Ops& ops, int stages);
// "layers 0..1 with 2.0 MB, layers 2..3 with 2.1 MB"
std::string describe(const std::vector<StageShare>& shares);

// Which layers and bytes each stage has, what goes from one to the next, and what waiting costs. rows,
// candidates: of a generation.
std::string describe_stages(const ModelContext& model, int stages, const MemoryPlan& plan, int64_t rows,
                            int64_t candidates);

}  // namespace eep
