// Weights: one allocation for all resident matrices and f32 vectors, one of host memory for each streamed
// layer; sizes first, then cut and filled.
#include "engine/weights.h"

#include <cstring>

#include "engine/coded_matrix.h"
#include "kernels/common/interrupt.h"
#include "kernels/common/stored_value.h"

namespace eep {
namespace {

constexpr size_t kAlign = Buffer::kAlignment;

size_t rounded(size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// Cuts pieces from one allocation; with a null base it only adds up sizes. The same walk over the model
// serves both.
class Arena {
 public:
  explicit Arena(uint8_t* base) : base_(base) {}

  uint8_t* cut(size_t bytes) {
    uint8_t* piece = base_ == nullptr ? nullptr : base_ + used_;
    used_ += rounded(bytes);
    return piece;
  }
  size_t used() const { return used_; }

 private:
  uint8_t* base_;
  size_t used_ = 0;
};

// What a walk over the model does with each piece.
enum class Walk : uint8_t {
  kSizes,   // adds up
  kDevice,  // packs into the device's memory
  kHost,    // packs into the host's memory
  kViews    // describes what lies there, or will
};

// Describes and, with a base, fills every tensor. One walk, so sizes and contents cannot disagree.
class Packer {
 public:
  Packer(const ModelConfig& config, const Backend& backend, Walk walk, uint8_t* base)
      : config_(config), ops_(*backend.ops), device_(backend.device), walk_(walk), arena_(base) {}

  const float* vector(const Tensor& source, int64_t size) {
    auto* out = reinterpret_cast<float*>(arena_.cut(static_cast<size_t>(size) * sizeof(float)));
    if (walk_ == Walk::kSizes || walk_ == Walk::kViews) return out;
    const uint8_t* bytes = source.as<uint8_t>();
    std::vector<float> values(static_cast<size_t>(size));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = stored_value(bytes + i * dtype_size(source.dtype), source.dtype);
    }
    if (walk_ == Walk::kHost) {
      std::memcpy(out, values.data(), values.size() * sizeof(float));
    } else {
      ops_.upload(out, values.data(), values.size() * sizeof(float), device_);
    }
    return out;
  }

  PackedMatrix matrix(const RawMatrix& source, int64_t n, int64_t k) {
    uint8_t* out = arena_.cut(ops_.packed_bytes(n, k, config_.dtype));
    switch (walk_) {
      case Walk::kSizes:
        return {};
      case Walk::kViews:
        return {out, ops_.weight_dtype(source.dtype), n, k};
      case Walk::kHost: {
        const RawMatrix plain = decoded(source, decoded_);
        return ops_.pack_host(plain.data, n, k, plain.row_stride, plain.column_stride, plain.dtype, out);
      }
      case Walk::kDevice:
        break;
    }
    const RawMatrix plain = decoded(source, decoded_);
    return ops_.pack(plain.data, n, k, plain.row_stride, plain.column_stride, plain.dtype, out, device_);
  }

  PackedMatrix router(const RawMatrix& source) {
    const int64_t n = config_.num_experts, k = config_.hidden_size;
    if (ops_.pack_router == nullptr) return matrix(source, n, k);
    uint8_t* out = arena_.cut(ops_.router_bytes(n, k, config_.dtype));
    if (walk_ == Walk::kSizes) return {};
    return ops_.pack_router(source.data, n, k, source.row_stride, source.column_stride, source.dtype, out,
                            device_);
  }

  // The embedding as the checkpoint has it: mapped where the device reads host memory, else copied.
  Tensor table(const Tensor& source) {
    if (ops_.host_memory) return source;
    uint8_t* out =
        arena_.cut(static_cast<size_t>(config_.vocab_size * config_.hidden_size) * dtype_size(config_.dtype));
    if (walk_ == Walk::kSizes) return {};
    ops_.upload(out, source.data, source.bytes(), device_);
    return Tensor(out, source.dtype, {source.dim(0), source.dim(1)});
  }

  ExpertMatrices ffn(const RawFfn& source, int64_t intermediate) {
    const int64_t hidden = config_.hidden_size;
    return {matrix(source.gate, intermediate, hidden), matrix(source.up, intermediate, hidden),
            matrix(source.down, hidden, intermediate)};
  }

  // The order in which a merged expert lies too (merge_buffer.cpp).
  ExpertMatrices routed_expert(const RawFfn& source) {
    const int64_t width = config_.expert_intermediate_size;
    ExpertMatrices out = ffn(source, width);
    if (!config_.expert_bias) return out;
    out.gate_bias = matrix(source.gate_bias, width, 1);
    out.up_bias = matrix(source.up_bias, width, 1);
    out.down_bias = matrix(source.down_bias, config_.hidden_size, 1);
    return out;
  }

  LayerWeights layer(const RawLayer& raw, bool sparse) {
    const int64_t hidden = config_.hidden_size, q_rows = config_.q_rows(), kv_rows = config_.kv_rows();
    LayerWeights out;
    out.sparse = sparse;
    out.input_norm = vector(raw.input_norm, hidden);
    out.post_norm = vector(raw.post_norm, hidden);
    out.q = matrix(raw.q, q_rows, hidden);
    out.k = matrix(raw.k, kv_rows, hidden);
    out.v = matrix(raw.v, kv_rows, hidden);
    out.o = matrix(raw.o, hidden, q_rows);
    if (config_.qkv_bias) {
      out.q_bias = vector(raw.q_bias, q_rows);
      out.k_bias = vector(raw.k_bias, kv_rows);
      out.v_bias = vector(raw.v_bias, kv_rows);
    }
    if (config_.o_bias) out.o_bias = vector(raw.o_bias, hidden);
    if (config_.sinks) out.sinks = vector(raw.sinks, config_.num_heads);
    if (config_.qk_norm != QkNorm::kNone) {
      out.q_norm = vector(raw.q_norm, config_.qk_norm_width(q_rows));
      out.k_norm = vector(raw.k_norm, config_.qk_norm_width(kv_rows));
    }
    if (!sparse) {
      out.dense = ffn(raw.dense, config_.dense_intermediate_size);
      return out;
    }
    out.router = router(raw.router);
    if (config_.has_router_bias()) out.router_bias = vector(raw.router_bias, config_.num_experts);
    static const RawFfn kNone;
    for (int64_t expert = 0; expert < config_.num_experts; ++expert) {
      if (expert > 0 && expert >= static_cast<int64_t>(raw.experts.size()) && !raw.experts.empty()) {
        out.experts.push_back(out.experts[0]);  // not stored and in no plan: stands in, takes no memory
        continue;
      }
      const RawFfn& source = raw.experts.empty() ? kNone : raw.experts[static_cast<size_t>(expert)];
      out.experts.push_back(routed_expert(source));
    }
    if (config_.shared_intermediate_size > 0) {
      out.shared = ffn(raw.shared, config_.shared_intermediate_size);
      if (config_.shared_gated) out.shared_gate = matrix(raw.shared_gate, 1, hidden);
    }
    return out;
  }

  size_t used() const { return arena_.used(); }

 private:
  const ModelConfig& config_;
  const Ops& ops_;
  Device device_;
  Walk walk_;
  Arena arena_;
  Buffer decoded_;  // of one matrix that the checkpoint stores in 8 bits
};

}  // namespace

// Streamed layers where there is nothing to copy them from: each is packed into one of the buffers when it is
// asked for.
class Weights::Repacked {
 public:
  Repacked(const RawModel& raw, const Backend& backend, size_t buffer_bytes) : raw_(raw), backend_(backend) {
    for (DeviceBuffer& buffer : buffers_) buffer = DeviceBuffer(backend, buffer_bytes);
    holds_.fill(kNothing);
  }

  const LayerWeights& layer(int64_t index) {
    for (size_t slot = 0; slot < holds_.size(); ++slot) {
      if (holds_[slot] == index) return views_[current_ = slot];
    }
    check_interrupted();
    const size_t slot = 1 - current_;  // the layer before this one stays
    holds_[slot] = kNothing;
    Packer packer(raw_.config, backend_, Walk::kDevice, buffers_[slot].as<uint8_t>());
    views_[slot] = packer.layer(raw_.layers[static_cast<size_t>(index)],
                                raw_.config.sparse[static_cast<size_t>(index)] != 0);
    holds_[slot] = index;
    ++packed_;
    return views_[current_ = slot];
  }
  int64_t packed() const { return packed_; }

 private:
  static constexpr int64_t kNothing = -1;
  static_assert(kStreamBuffers == 2);
  const RawModel& raw_;
  Backend backend_;
  std::array<DeviceBuffer, kStreamBuffers> buffers_;
  std::array<LayerWeights, kStreamBuffers> views_;
  std::array<int64_t, kStreamBuffers> holds_;
  size_t current_ = 1;
  int64_t packed_ = 0;
};

size_t Weights::packed_bytes(const ModelConfig& config, const Ops& ops) {
  return packed_bytes(config, ops, all_layers(config));
}

size_t Weights::packed_bytes(const ModelConfig& config, const Ops& ops, LayerRange layers) {
  Packer sizes(config, ops, Walk::kSizes, nullptr);
  const RawLayer none;
  for (int64_t layer = layers.begin; layer < layers.end; ++layer)
    sizes.layer(none, config.sparse[static_cast<size_t>(layer)] != 0);
  if (layers.end == config.num_layers) {
    sizes.vector({}, config.hidden_size);
    sizes.matrix({}, config.vocab_size, config.hidden_size);
  }
  if (layers.begin == 0) sizes.table({});
  return sizes.used();
}

size_t Weights::layer_bytes(const ModelConfig& config, const Ops& ops, bool sparse) {
  Packer sizes(config, ops, Walk::kSizes, nullptr);
  sizes.layer({}, sparse);
  return sizes.used();
}

Weights::Weights(const RawModel& raw, const Backend& backend)
    : Weights(raw, backend, plan_weights(raw.config, *backend.ops, 0)) {}

Weights::Weights(const RawModel& raw, const Backend& backend, const WeightPlan& plan)
    : raw_(raw),
      config_(raw.config),
      backend_(backend),
      packed_(std::make_unique<Packed>(raw, backend, plan)) {}

Weights::Packed::Packed(const RawModel& raw, const Backend& backend, const WeightPlan& made)
    : plan(made), streamed(raw.layers.size()) {
  const ModelConfig& config = raw.config;
  if (plan.layers.end == 0) plan.layers = all_layers(config);
  if (plan.streamed_layers() > 0 && backend.ops->host_memory) {
    repacked = std::make_unique<Repacked>(raw, backend, plan.buffer);
  } else if (plan.streamed_layers() > 0) {
    stream = std::make_unique<LayerStream>(backend, plan.buffer);
  }
  storage = DeviceBuffer(backend, plan.resident);
  Packer packer(config, backend, Walk::kDevice, storage.as<uint8_t>());
  int64_t number = 0;
  for (size_t index = 0; index < raw.layers.size(); ++index) {
    check_interrupted();
    if (!plan.layers.has(static_cast<int64_t>(index))) {
      layers.emplace_back();
      continue;
    }
    const RawLayer& layer = raw.layers[index];
    const bool sparse = config.sparse[index] != 0;
    if (plan.streamed.empty() || plan.streamed[index] == 0) {
      layers.push_back(packer.layer(layer, sparse));
      continue;
    }
    layers.emplace_back();
    if (repacked != nullptr) continue;
    HostBuffer host(backend, layer_bytes(config, *backend.ops, sparse));
    Packer(config, backend, Walk::kHost, host.data()).layer(layer, sparse);
    stream->add(std::move(host));
    streamed[index] = std::make_unique<Streamed>();
    streamed[index]->number = number++;
    for (int slot = 0; slot < kStreamBuffers; ++slot) {
      Packer views(config, backend, Walk::kViews, stream->buffer(slot));
      streamed[index]->views[static_cast<size_t>(slot)] = views.layer(layer, sparse);
    }
  }
  if (plan.layers.end == config.num_layers) {
    final_norm = packer.vector(raw.final_norm, config.hidden_size);
    vocabulary = packer.matrix(raw.lm_head, config.vocab_size, config.hidden_size);
  }
  if (plan.layers.begin == 0) embedding = packer.table(raw.embedding);
}

Weights::Packed::~Packed() = default;
Weights::~Weights() = default;

bool Weights::make_room(size_t budget, size_t work) const {
  const std::optional<WeightPlan> other = plan_weights_beside(config_, ops(), budget, layers(), work);
  if (!other || other->device_bytes() >= plan().device_bytes()) return false;
  packed_.reset();  // first, or there is no room for the other
  packed_ = std::make_unique<Packed>(raw_, backend_, *other);
  return true;
}

int64_t Weights::streamed_copies() const {
  return packed_->stream != nullptr     ? packed_->stream->copies()
         : packed_->repacked != nullptr ? packed_->repacked->packed()
                                        : 0;
}

const LayerWeights& Weights::layer(int64_t index) const {
  const auto at = static_cast<size_t>(index);
  if (packed_->repacked != nullptr && packed_->plan.streamed[at] != 0) return packed_->repacked->layer(index);
  const std::unique_ptr<Streamed>& streamed = packed_->streamed[at];
  if (streamed == nullptr) return packed_->layers[at];
  return streamed->views[static_cast<size_t>(packed_->stream->acquire(streamed->number))];
}

}  // namespace eep
