#include "engine/merge_buffer.h"

#include <algorithm>

#include "kernels/common/error.h"

namespace eep {
namespace {

size_t rounded(size_t bytes) {
  return (bytes + Buffer::kAlignment - 1) / Buffer::kAlignment * Buffer::kAlignment;
}

struct Piece {
  PackedMatrix ExpertMatrices::*member;
  int64_t n, k;
};

// Of an expert, in the order in which they lie.
std::vector<Piece> pieces(const ModelConfig& config) {
  const int64_t hidden = config.hidden_size, width = config.expert_intermediate_size;
  std::vector<Piece> all{{&ExpertMatrices::gate, width, hidden},
                         {&ExpertMatrices::up, width, hidden},
                         {&ExpertMatrices::down, hidden, width}};
  if (!config.expert_bias) return all;
  all.push_back({&ExpertMatrices::gate_bias, width, 1});
  all.push_back({&ExpertMatrices::up_bias, width, 1});
  all.push_back({&ExpertMatrices::down_bias, hidden, 1});
  return all;
}

}  // namespace

MergeBuffer::MergeBuffer(const Weights& weights, int64_t slots)
    : weights_(weights), ops_(weights.ops()), device_(weights.device()), slots_(slots) {
  const ModelConfig& config = weights.config();
  slot_bytes_ = slot_bytes(config, ops_);
  storage_ = DeviceBuffer(weights.backend(), slot_bytes_ * static_cast<size_t>(slots));
  slot_of_.resize(static_cast<size_t>(config.num_layers));
}

size_t MergeBuffer::slot_bytes(const ModelConfig& config, const Ops& ops) {
  size_t bytes = 0;
  for (const Piece& piece : pieces(config))
    bytes += rounded(ops.packed_bytes(piece.n, piece.k, config.dtype));
  return bytes;
}

ExpertMatrices MergeBuffer::slot(int64_t index) const {
  const ModelConfig& config = weights_.config();
  uint8_t* at = storage_.as<uint8_t>() + static_cast<size_t>(index) * slot_bytes_;
  const DType dtype = ops_.weight_dtype(config.dtype);
  ExpertMatrices matrices;
  for (const Piece& piece : pieces(config)) {
    matrices.*piece.member = {at, dtype, piece.n, piece.k};
    at += rounded(ops_.packed_bytes(piece.n, piece.k, config.dtype));
  }
  return matrices;
}

MergeBuffer::~MergeBuffer() {
  try {
    join();                 // the memory goes back in the order of the device's first stream
  } catch (const Error&) {  // the device has failed, and whoever waits for it says so
  }
}

void MergeBuffer::join() {
  if (beside_) ops_.join_beside(device_);
  beside_ = false;
}

void MergeBuffer::begin(int64_t layer, std::span<const MergedRow> rows) {
  join();
  weights_.layer(layer);  // where it is streamed, its copy is waited for before the fork
  beside_ = true;
  fill(layer, rows, ops_.fork_beside(device_));
}

std::vector<ExpertMatrices> MergeBuffer::merge(int64_t layer, std::span<const MergedRow> rows) {
  join();
  return fill(layer, rows, device_);
}

bool MergeBuffer::holds(int64_t layer, int32_t id) const {
  const std::vector<int64_t>& slots = slot_of_[static_cast<size_t>(layer)];
  return static_cast<size_t>(id) < slots.size() && slots[static_cast<size_t>(id)] >= 0;
}

int64_t& MergeBuffer::slot_of(int64_t layer, int32_t id) {
  std::vector<int64_t>& slots = slot_of_[static_cast<size_t>(layer)];
  if (static_cast<size_t>(id) >= slots.size()) slots.resize(static_cast<size_t>(id) + 1, -1);
  return slots[static_cast<size_t>(id)];
}

std::vector<ExpertMatrices> MergeBuffer::fill(int64_t layer, std::span<const MergedRow> rows,
                                              const Device& device) {
  const int64_t experts = weights_.config().num_experts;
  std::vector<int32_t> missing;
  for (const MergedRow& row : rows) {
    if (!holds(layer, row.id)) missing.push_back(row.id);
  }
  std::sort(missing.begin(), missing.end());
  missing.erase(std::unique(missing.begin(), missing.end()), missing.end());
  if (used_ + static_cast<int64_t>(missing.size()) > slots_) {
    for (std::vector<int64_t>& slots : slot_of_) slots.clear();
    used_ = 0;
  }

  std::vector<ExpertMatrices> result;
  std::vector<float> coefficients;
  std::vector<ExpertMatrices> targets;
  for (const MergedRow& row : rows) {
    int64_t& at = slot_of(layer, row.id);
    const bool fresh = at < 0;
    if (fresh) at = used_++;
    result.push_back(slot(at));
    if (!fresh) continue;
    targets.push_back(result.back());
    coefficients.insert(coefficients.end(), row.coefficient, row.coefficient + experts);
  }
  if (targets.empty()) return result;

  // A merged expert lies as a base expert does, its matrices with the same gaps, so all of them are one op.
  std::vector<const void*> base;
  std::vector<void*> merged;
  for (const ExpertMatrices& expert : weights_.layer(layer).experts) base.push_back(expert.gate.data);
  for (const ExpertMatrices& target : targets) merged.push_back(target.gate.data);
  ExpertMergeArgs args;
  args.base = base.data();
  args.experts = static_cast<int32_t>(experts);
  args.dtype = targets[0].gate.dtype;
  args.elements = static_cast<int64_t>(slot_bytes_ / dtype_size(args.dtype));
  args.coefficient = coefficients.data();
  args.rows = static_cast<int32_t>(targets.size());
  args.eep_rounding = weights_.config().parity == Parity::kEep;
  args.merged = merged.data();
  ops_.expert_merge(args, device);
  const int64_t made = static_cast<int64_t>(targets.size());
  counts_.experts += made;
  counts_.read_bytes += experts * static_cast<int64_t>(slot_bytes_);
  counts_.written_bytes += made * static_cast<int64_t>(slot_bytes_);
  return result;
}

}  // namespace eep
