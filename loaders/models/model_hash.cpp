// One streaming XXH3-128 over numbers and tensors in the order of RawModel.
#include "loaders/models/model_hash.h"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <vector>

#include "engine/coded_matrix.h"
#include "kernels/common/error.h"
#include "kernels/common/interrupt.h"

namespace eep {

namespace {

class Hasher {
 public:
  Hasher() : state_(XXH3_createState(), XXH3_freeState) { XXH3_128bits_reset(state_.get()); }

  void bytes(const void* data, size_t size) {
    XXH3_128bits_update(state_.get(), data, size);
    done_ += size;
  }
  size_t done() const { return done_; }

  void number(int64_t value) {
    uint8_t little_endian[8];
    for (int byte = 0; byte < 8; ++byte) little_endian[byte] = static_cast<uint8_t>(value >> (8 * byte));
    bytes(little_endian, sizeof(little_endian));
  }
  void number(double value) { number(std::bit_cast<int64_t>(value)); }

  void vector(const Tensor& tensor) {
    number(tensor ? static_cast<int64_t>(tensor.dtype) : int64_t{-1});
    if (tensor) bytes(tensor.data, tensor.bytes());
  }

  // Rows in order, each as it would lie in a row-major matrix.
  void matrix(const RawMatrix& matrix) {
    check_interrupted();
    number(matrix ? static_cast<int64_t>(matrix.dtype) : int64_t{-1});
    if (!matrix) return;
    const size_t element = dtype_size(matrix.dtype), row_bytes = static_cast<size_t>(matrix.k) * element;
    if (matrix.coded()) return coded(matrix, row_bytes);
    const auto* data = static_cast<const uint8_t*>(matrix.data);
    if (matrix.column_stride == 1 && matrix.row_stride == matrix.k) {
      return bytes(data, static_cast<size_t>(matrix.n) * row_bytes);
    }
    row_.resize(row_bytes);
    for (int64_t i = 0; i < matrix.n; ++i) {
      for (int64_t j = 0; j < matrix.k; ++j) {
        const int64_t offset = i * matrix.row_stride + j * matrix.column_stride;
        for (size_t byte = 0; byte < element; ++byte) {
          row_[static_cast<size_t>(j) * element + byte] = data[static_cast<size_t>(offset) * element + byte];
        }
      }
      bytes(row_.data(), row_bytes);
    }
  }

  // Its values, so that a model in 8 bits and its 16-bit twin have one hash.
  void coded(const RawMatrix& matrix, size_t row_bytes) {
    const int64_t step = std::clamp<int64_t>(matrix.scales.block_rows, 1, 256);
    for (int64_t begin = 0; begin < matrix.n; begin += step) {
      const int64_t end = std::min(begin + step, matrix.n);
      row_.resize(static_cast<size_t>(end - begin) * row_bytes);
      decode_rows(matrix, begin, end, row_.data());
      bytes(row_.data(), row_.size());
    }
  }

  void ffn(const RawFfn& ffn) {
    matrix(ffn.gate);
    matrix(ffn.up);
    matrix(ffn.down);
  }

  std::string digest() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    static const char* digits = "0123456789abcdef";
    std::string text = "xxh3:";
    for (uint64_t half : {hash.high64, hash.low64}) {
      for (int shift = 60; shift >= 0; shift -= 4) text += digits[half >> shift & 15];
    }
    return text;
  }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
  std::vector<uint8_t> row_;
  size_t done_ = 0;
};

void hash_config(Hasher& hasher, const ModelConfig& config) {
  for (int64_t value :
       {static_cast<int64_t>(config.family), config.vocab_size, config.hidden_size, config.num_layers,
        config.num_heads, config.num_kv_heads, config.head_dim, config.max_positions, config.sliding_window,
        static_cast<int64_t>(config.tie_word_embeddings), static_cast<int64_t>(config.qkv_bias),
        static_cast<int64_t>(config.qk_norm), config.num_experts, config.top_k,
        config.expert_intermediate_size, config.shared_intermediate_size, config.dense_intermediate_size,
        static_cast<int64_t>(config.norm_topk_prob), static_cast<int64_t>(config.rope_scaling.truncate)}) {
    hasher.number(value);
  }
  const RopeScaling& rope = config.rope_scaling;
  for (double value : {static_cast<double>(config.rms_norm_eps), config.rope_theta, rope.factor,
                       rope.original_max_position, rope.beta_fast, rope.beta_slow, rope.attention_factor}) {
    hasher.number(value);
  }
  if (config.rotary_dim > 0) hasher.number(config.rotary_dim);
  if (config.router_score == RouterScore::kSigmoid) {
    hasher.number(double{config.router_scale});
    hasher.number(config.router_groups);
    hasher.number(config.router_top_groups);
  }
  if (config.clip_qkv > 0) hasher.number(double{config.clip_qkv});
  hasher.bytes(config.sparse.data(), config.sparse.size());
}

}  // namespace

std::string model_hash(const RawModel& model,
                       const std::function<void(size_t done, size_t total)>& progress) {
  Hasher hasher;
  hash_config(hasher, model.config);
  hasher.vector(model.embedding);
  for (const RawLayer& layer : model.layers) {
    hasher.vector(layer.input_norm);
    for (const RawMatrix* matrix : {&layer.q, &layer.k, &layer.v, &layer.o}) hasher.matrix(*matrix);
    for (const Tensor* vector :
         {&layer.q_bias, &layer.k_bias, &layer.v_bias, &layer.q_norm, &layer.k_norm, &layer.post_norm}) {
      hasher.vector(*vector);
    }
    hasher.matrix(layer.router);
    if (layer.router_bias) hasher.vector(layer.router_bias);
    for (const RawFfn& expert : layer.experts) {
      hasher.ffn(expert);
      if (progress) progress(std::min(hasher.done(), model.bytes), model.bytes);
    }
    hasher.ffn(layer.shared);
    hasher.matrix(layer.shared_gate);
    hasher.ffn(layer.dense);
  }
  hasher.vector(model.final_norm);
  hasher.matrix(model.lm_head);
  if (progress) progress(model.bytes, model.bytes);
  return hasher.digest();
}

}  // namespace eep
