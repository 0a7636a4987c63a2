#include "bench/synthetic_model.h"

#include <algorithm>

#include "kernels/common/error.h"
#include "kernels/gpu/tile_schedule.h"
#include "loaders/models/config_json.h"

namespace eep::bench {
namespace {

constexpr uint64_t kSeed = 20;
constexpr int64_t kWindow = 32;    // elements from one matrix to the next
constexpr float kScale = 0.0346f;  // of a standard deviation of 0.02, as models are initialised

// What pack of a GPU's table reads to know which window a matrix is. One model at a time makes its weights.
const uint8_t* host_base = nullptr;

template <DeviceKind kKind>
PackedMatrix pack_noise(const void* source, int64_t n, int64_t k, int64_t row_stride, int64_t column_stride,
                        DType dtype, void* destination, const Device& device) {
  const Ops& ops = kKind == DeviceKind::kCuda ? cuda_ops() : simt_ops();
  if (row_stride_16bit(k) != k)  // rows have padding: the host's array in the backend's layout
    return ops.pack(source, n, k, row_stride, column_stride, dtype, destination, device);
  const int64_t first =
      (static_cast<const uint8_t*>(source) - host_base) / static_cast<int64_t>(dtype_size(dtype));
  ops.noise({destination, dtype, n * k, kSeed, 0, kScale, first}, device);
  return {destination, dtype, n, k};
}

}  // namespace

SyntheticModel::SyntheticModel(const std::string& config_json, int64_t layers, const Ops& ops,
                               const Device& device)
    : ops_(ops) {
  ModelConfig& config = raw_.config;
  config = parse_config(JsonDocument::read(config_json));
  if (config.dtype == DType::kF32) config.dtype = DType::kBF16;
  if (layers > config.num_layers) {
    throw Error(ExitCode::kUsage, "--layers",
                "the configuration has fewer (expected at most " + std::to_string(config.num_layers) +
                    ", got " + std::to_string(layers) + ")");
  }
  if (layers > 0) config.num_layers = layers;
  config.sparse.resize(static_cast<size_t>(config.num_layers));

  const int64_t hidden = config.hidden_size;
  const int64_t largest = hidden * std::max({config.vocab_size, config.num_heads * config.head_dim,
                                             config.expert_intermediate_size, config.shared_intermediate_size,
                                             config.dense_intermediate_size});
  const int64_t matrices = 2 + config.num_layers * (8 + 3 * (config.num_experts + 2));
  host_ = Buffer(static_cast<size_t>(largest + kWindow * matrices) * dtype_size(config.dtype));
  noise_cpu({host_.data(), config.dtype, static_cast<int64_t>(host_.bytes() / dtype_size(config.dtype)),
             kSeed, 0, kScale},
            device);
  host_base = host_.as<uint8_t>();

  const RawMatrix embedding = matrix(config.vocab_size, hidden);
  raw_.embedding = Tensor(embedding.data, config.dtype, {config.vocab_size, hidden});
  raw_.lm_head = config.tie_word_embeddings ? embedding : matrix(config.vocab_size, hidden);
  raw_.final_norm = vector(hidden, 1);
  for (int64_t index = 0; index < config.num_layers; ++index) {
    raw_.layers.push_back(layer(config.sparse[static_cast<size_t>(index)] != 0));
  }
  if (ops.host_memory) return;
  ops_.pack =
      device.kind == DeviceKind::kCuda ? pack_noise<DeviceKind::kCuda> : pack_noise<DeviceKind::kSimt>;
}

RawMatrix SyntheticModel::matrix(int64_t n, int64_t k) {
  const size_t at = static_cast<size_t>(kWindow * windows_++) * dtype_size(raw_.config.dtype);
  return {host_.as<uint8_t>() + at, raw_.config.dtype, n, k, k, 1};
}

Tensor SyntheticModel::vector(int64_t size, float value) {
  vectors_.emplace_back(static_cast<size_t>(size), value);
  return Tensor(vectors_.back().data(), DType::kF32, {size});
}

RawFfn SyntheticModel::ffn(int64_t width) {
  const int64_t hidden = raw_.config.hidden_size;
  RawFfn out;
  out.gate = matrix(width, hidden);
  out.up = matrix(width, hidden);
  out.down = matrix(hidden, width);
  return out;
}

RawLayer SyntheticModel::layer(bool sparse) {
  const ModelConfig& config = raw_.config;
  const int64_t hidden = config.hidden_size, q = config.num_heads * config.head_dim;
  const int64_t kv = config.num_kv_heads * config.head_dim;
  RawLayer out;
  out.input_norm = vector(hidden, 1);
  out.post_norm = vector(hidden, 1);
  out.q = matrix(q, hidden);
  out.k = matrix(kv, hidden);
  out.v = matrix(kv, hidden);
  out.o = matrix(hidden, q);
  if (config.qkv_bias) {
    out.q_bias = vector(q, 0);
    out.k_bias = vector(kv, 0);
    out.v_bias = vector(kv, 0);
  }
  if (config.qk_norm != QkNorm::kNone) {
    out.q_norm = vector(config.qk_norm_width(q), 1);
    out.k_norm = vector(config.qk_norm_width(kv), 1);
  }
  if (!sparse) {
    out.dense = ffn(config.dense_intermediate_size);
    return out;
  }
  out.router = matrix(config.num_experts, hidden);
  if (config.router_score == RouterScore::kSigmoid) out.router_bias = vector(config.num_experts, 0);
  for (int64_t expert = 0; expert < config.num_experts; ++expert)
    out.experts.push_back(ffn(config.expert_intermediate_size));
  if (config.shared_intermediate_size > 0) {
    out.shared = ffn(config.shared_intermediate_size);
    if (config.shared_gated) out.shared_gate = matrix(1, hidden);
  }
  return out;
}

}  // namespace eep::bench
