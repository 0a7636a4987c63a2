#include "experiments/study/stage_link.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>

#include "engine/calibration.h"
#include "engine/skip_thresholds.h"
#include "es/bytes.h"
#include "experiments/study/calibration_request.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

// Of what is small in each of the layers: two copies of a model that differ are told apart without reading
// them.
uint64_t digest_of(const RawModel& raw, LayerRange layers) {
  std::string bytes;
  for (int64_t index = layers.begin; index < layers.end; ++index) {
    const RawLayer& layer = raw.layers[static_cast<size_t>(index)];
    for (const Tensor* norm : {&layer.input_norm, &layer.post_norm})
      bytes.append(static_cast<const char*>(norm->data), norm->bytes());
  }
  return XXH3_64bits(bytes.data(), bytes.size());
}

// Returns when all work given to the device is over, which is what a download waits for.
void finish_work(const float* rows, const Backend& backend) {
  float first = 0;
  if (!backend.ops->host_memory) backend.ops->download(&first, rows, sizeof first, backend.device);
}

// The smaller one, 0 being no limit.
size_t smaller(size_t a, size_t b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); }

}  // namespace

bool device_rows_to_mpi(DeviceKind device, std::string_view cuda_aware, const char* setting) {
  const std::string_view wanted = setting == nullptr ? "auto" : setting;
  const auto fail = [&](const std::string& what) { throw Error(ExitCode::kUsage, "EEP_MPI_DEVICE", what); };
  const bool cuda = device == DeviceKind::kCuda;
  if (wanted == "off") return false;
  if (wanted == "auto") return cuda && cuda_aware == "yes";
  if (wanted != "on") fail(fmt::format("unknown word (expected auto, on or off, got {})", wanted));
  if (cuda && cuda_aware == "no")
    fail("this MPI cannot read a GPU's memory (expected a CUDA-aware one, or off; got on)");
  return true;
}

size_t room_beside(const Weights& weights, size_t memory) {
  if (memory == 0) return 0;
  const size_t taken = weights.plan().device_bytes();
  return memory > taken ? memory - taken : 1;
}

void RankStageLink::tell_model(Ranks& ranks, int stages, int32_t combination) {
  StageRequest request;
  request.combination = combination;
  for (int stage = 1; stage < stages; ++stage)
    ranks.send(ranks.rank() + stage, kCallTag, stage_request_bytes(request));
}

void RankStageLink::await_others(size_t own_room) {
  room_ = own_room;
  for (int stage = 1; stage < stages(); ++stage) {
    const std::string message = receive(stage);
    std::string_view bytes = message;
    room_ = smaller(room_, static_cast<size_t>(take<uint64_t>(bytes, "message")));
    const uint64_t wanted = digest_of(model_.raw(), layers()[static_cast<size_t>(stage)]);
    const auto found = take<uint64_t>(bytes, "message");
    if (wanted == found) continue;
    throw Error(
        ExitCode::kData, "the model",
        fmt::format("{} has another one", ranks_.name(rank_of(stage))) +
            expected_got(fmt::format("norms of its layers {:016x}", wanted), fmt::format("{:016x}", found)),
        "every rank must see the same files");
  }
}

void RankStageLink::answer(size_t own_room) {
  std::string out;
  put(static_cast<uint64_t>(own_room), out);
  put(digest_of(model_.raw(), layers()[static_cast<size_t>(stage_)]), out);
  send(0, out);
}

void RankStageLink::announce(const StageCall& call) {
  StageRequest request;
  request.combination = combination_;
  request.room = room_;
  request.plans.assign(call.plans.begin(), call.plans.end());
  if (call.prompts != nullptr) request.prompts = *call.prompts;
  switch (call.kind) {
    case StageCall::Kind::kScore:
      request.kind = StageRequest::Kind::kScore;
      break;
    case StageCall::Kind::kGenerate:
      request.kind = StageRequest::Kind::kGenerate;
      break;
    case StageCall::Kind::kRatios:
      request.kind = StageRequest::Kind::kRatios;
      break;
    case StageCall::Kind::kCalibrate:
      request.kind = StageRequest::Kind::kCalibrate;
      request.calibration = request_of(*call.options, model_.config());
  }
  const std::string bytes = stage_request_bytes(request);
  for (int stage = 1; stage < stages(); ++stage) ranks_.send(rank_of(stage), kCallTag, bytes);
}

std::string RankStageLink::receive(int stage) {
  const int from = rank_of(stage);
  std::deque<std::string>& early = early_[from];
  while (early.empty()) {
    RankMessage message = ranks_.receive({kRowsTag});
    early_[message.from].push_back(std::move(message.bytes));
  }
  std::string bytes = std::move(early.front());
  early.pop_front();
  return bytes;
}

HostBuffer RankStageLink::take_buffer(size_t bytes) {
  for (size_t under_way = ranks_.rows_under_way(); sending_.size() > under_way; sending_.pop_front())
    sent_.push_back(std::move(sending_.front()));
  while (!sent_.empty()) {
    HostBuffer buffer = std::move(sent_.front());
    sent_.pop_front();
    if (buffer.bytes() >= bytes) return buffer;
  }
  return {model_.weights().backend(), bytes};
}

void RankStageLink::send_rows(int stage, const float* rows, int64_t floats) {
  if (floats == 0) return;
  const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
  const Backend& backend = model_.weights().backend();
  if (device_rows_) {
    finish_work(rows, backend);
    return ranks_.send_rows(rank_of(stage), rows, bytes);
  }
  sending_.push_back(take_buffer(bytes));
  backend.ops->download(sending_.back().data(), rows, bytes, backend.device);
  ranks_.send_rows(rank_of(stage), sending_.back().data(), bytes);
}

void RankStageLink::receive_rows(int stage, float* rows, int64_t floats) {
  if (floats == 0) return;
  const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
  const Backend& backend = model_.weights().backend();
  finish_work(rows, backend);  // with the memory, and with the buffer below
  if (device_rows_ || backend.ops->host_memory) return ranks_.receive_rows(rank_of(stage), rows, bytes);
  if (!received_ || received_->bytes() < bytes) {
    received_.reset();
    received_.emplace(backend, bytes);
  }
  ranks_.receive_rows(rank_of(stage), received_->data(), bytes);
  constexpr int kSlot = kStreamBuffers;  // behind those of a layer stream
  static_assert(kSlot < kUploadSlots);
  backend.ops->upload_ahead(rows, received_->data(), bytes, kSlot, backend.device);
  backend.ops->await_upload(kSlot, backend.device);
}

void compute_stage(const StageRequest& request, const ModelContext& model, PopulationForward& forward) {
  switch (request.kind) {
    case StageRequest::Kind::kOpen:
      return;
    case StageRequest::Kind::kScore:
      return forward.follow({StageCall::Kind::kScore, request.plans, &request.prompts, nullptr});
    case StageRequest::Kind::kGenerate:
      return forward.follow({StageCall::Kind::kGenerate, request.plans, nullptr, nullptr});
    case StageRequest::Kind::kRatios:
      weight_ratios(model.weights(), 0, request.plans.at(0), request.prompts);
      return;
    case StageRequest::Kind::kCalibrate:
      break;
  }
  calibrate(model.weights(), 0, request.prompts, options_of(request.calibration));
}

std::vector<StageShare> stage_shares(const ModelConfig& config, const Ops& ops, int stages) {
  std::vector<StageShare> shares;
  for (const LayerRange& layers : divide_layers(config, ops, stages))
    shares.push_back({layers, Weights::packed_bytes(config, ops, layers)});
  return shares;
}

std::string describe(const std::vector<StageShare>& shares) {
  std::string text;
  for (const StageShare& share : shares) {
    text += fmt::format("{}layers {}..{} with {:.1f} MB", text.empty() ? "" : ", ", share.layers.begin,
                        share.layers.end - 1, static_cast<double>(share.bytes) / 1e6);
  }
  return text;
}

std::string describe_stages(const ModelContext& model, int stages, const MemoryPlan& plan, int64_t rows,
                            int64_t candidates) {
  const std::string text = "pipeline: " + describe(stage_shares(model.config(), model.ops(), stages)) + ",";
  const int64_t chunks = ceil_div(rows, plan.chunk_rows) * ceil_div(candidates, int64_t{plan.candidates});
  const int64_t most = plan.chunk_rows * plan.candidates * model.config().hidden_size;
  return text +
         fmt::format(
             " at most {:.1f} MB from stage to stage a chunk, {} chunks a generation: stages wait {:.0f} "
             "% of their time",
             4.0 * static_cast<double>(most) / 1e6, chunks,
             100.0 * (stages - 1) / static_cast<double>(chunks + stages - 1));
}

}  // namespace eep
