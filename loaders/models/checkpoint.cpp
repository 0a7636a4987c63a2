// Finding and checking every tensor of the architecture. Tensors are views into mapped files; nothing is read
// here except headers (and, for a tied model that stores lm_head all the same, that matrix).
#include "loaders/models/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <utility>

#include "engine/coded_matrix.h"
#include "kernels/common/expected.h"
#include "loaders/models/config_json.h"
#include "loaders/models/families.h"
#include "loaders/models/model_directory.h"
#include "loaders/models/mtp.h"
#include "loaders/models/plan_io.h"
#include "loaders/models/tensor_table.h"

namespace eep {

namespace {

class Loader {
 public:
  explicit Loader(const std::string& directory)
      : directory_(directory),
        native_(is_there(join_path(directory, kNativeConfig))),
        table_(directory, native_ ? "eep" : "model") {
    model_.config = read_config(directory);
    if (native_)
      read_native_plan(join_path(directory, "plan.json"));
    else if (!model_.config.experts_per_layer.empty())
      plan_of_counts();
  }

  RawModel load() {
    const ModelConfig& config = model_.config;
    model_.embedding = table_.get("model.embed_tokens.weight", {config.vocab_size, config.hidden_size});
    model_.config.dtype = model_.embedding.dtype;
    for (int64_t index = 0; index < config.num_layers; ++index) {
      model_.layers.push_back(layer("model.layers." + std::to_string(index) + ".",
                                    config.sparse[static_cast<size_t>(index)] != 0, stored_experts(index)));
    }
    model_.final_norm = vector("model.norm.weight", config.hidden_size);
    model_.lm_head = vocabulary();
    const int64_t mtp_layers = read_mtp_layers(directory_);
    table_.skip([&](const std::string& name) {
      return is_mtp(name, model_.config.num_layers, model_.config.num_layers + mtp_layers);
    });
    table_.check_all_used();
    model_.bytes = table_.used_bytes();
    model_.note = table_.note();
    model_.files = table_.take_files();
    return std::move(model_);
  }

 private:
  // Row j of W_EM is stored expert j.
  void read_native_plan(const std::string& path) {
    PlanInfo info;
    const ExpertPlan plan = read_plan(path, &info);
    info.hash.clear();
    check_plan_model(plan, info, model_.config, {}, path);
    for (size_t i = 0; i < plan.groups.size(); ++i) {
      const PlanGroup& group = plan.groups[i];
      const std::vector<int32_t> rows = one_hot_rows(group.expert_merging, group.kept, group.experts);
      if (rows.empty() || *std::max_element(rows.begin(), rows.end()) >= group.kept) {
        throw Error(ExitCode::kData, path,
                    "groups[" + std::to_string(i) + "].expert_merging: a row is not one of the " +
                        std::to_string(group.kept) + " stored experts");
      }
    }
    model_.plan = plan;
  }

  // Layers hold different numbers of experts: each routes among its own.
  void plan_of_counts() {
    const ModelConfig& config = model_.config;
    ExpertPlan plan;
    plan.top_k = static_cast<int32_t>(config.top_k);
    plan.router_space = RouterSpace::kLogits;
    for (int32_t layer = 0; layer < static_cast<int32_t>(config.num_layers); ++layer) {
      if (config.sparse[static_cast<size_t>(layer)] == 0) continue;
      std::vector<int32_t> stored(static_cast<size_t>(config.experts_per_layer[static_cast<size_t>(layer)]));
      std::iota(stored.begin(), stored.end(), 0);
      plan.groups.push_back(one_hot_group({layer}, stored, static_cast<int32_t>(config.num_experts)));
    }
    model_.plan = std::move(plan);
  }

  // A gate of fewer rows than the largest layer's, filled up with zeros that the plan never selects.
  RawMatrix gate_rows(const std::string& name, int64_t stored) {
    const ModelConfig& config = model_.config;
    if (native_ || stored == config.num_experts) return matrix(name, config.num_experts, config.hidden_size);
    const RawMatrix gate = matrix(name, stored, config.hidden_size);
    const size_t bytes =
        static_cast<size_t>(config.num_experts * config.hidden_size) * dtype_size(gate.dtype);
    uint8_t* const padded = own(bytes);
    if (gate.coded()) {
      decode_rows(gate, 0, stored, padded);
    } else {
      std::memcpy(padded, gate.data, static_cast<size_t>(stored * gate.k) * dtype_size(gate.dtype));
    }
    return {padded, gate.dtype, config.num_experts, gate.k, gate.k, 1};
  }

  // The same of what a router adds.
  Tensor gate_bias(const std::string& name, int64_t stored) {
    const int64_t experts = model_.config.num_experts;
    if (native_ || stored == experts) return vector(name, experts);
    Tensor bias = vector(name, stored);
    uint8_t* const padded = own(static_cast<size_t>(experts) * dtype_size(bias.dtype));
    std::memcpy(padded, bias.data, bias.bytes());
    bias.data = padded;
    bias.shape[0] = experts;
    return bias;
  }

  // Zeros that live as long as the model.
  uint8_t* own(size_t bytes) {
    auto zeros = std::make_shared<std::vector<uint8_t>>(bytes);
    uint8_t* const data = zeros->data();
    model_.owned.push_back(std::move(zeros));
    return data;
  }

  int64_t stored_experts(int64_t layer) const {
    if (!model_.plan) return model_.config.num_experts;
    for (const PlanGroup& group : model_.plan->groups) {
      if (std::find(group.layers.begin(), group.layers.end(), layer) != group.layers.end()) return group.kept;
    }
    return 0;  // a dense layer
  }

  RawLayer layer(const std::string& prefix, bool sparse, int64_t stored) {
    const ModelConfig& config = model_.config;
    const int64_t hidden = config.hidden_size, q_rows = config.q_rows(), kv_rows = config.kv_rows();
    const std::string attention = prefix + "self_attn.";
    RawLayer layer;
    layer.input_norm = vector(prefix + "input_layernorm.weight", hidden);
    layer.q = matrix(attention + "q_proj.weight", q_rows, hidden);
    layer.k = matrix(attention + "k_proj.weight", kv_rows, hidden);
    layer.v = matrix(attention + "v_proj.weight", kv_rows, hidden);
    layer.o = matrix(attention + "o_proj.weight", hidden, q_rows);
    if (config.qkv_bias) {
      layer.q_bias = vector(attention + "q_proj.bias", q_rows);
      layer.k_bias = vector(attention + "k_proj.bias", kv_rows);
      layer.v_bias = vector(attention + "v_proj.bias", kv_rows);
    }
    if (config.o_bias) layer.o_bias = vector(attention + "o_proj.bias", hidden);
    if (config.sinks) layer.sinks = vector(attention + "sinks", config.num_heads);
    if (config.qk_norm != QkNorm::kNone) {
      layer.q_norm = vector(attention + "q_norm.weight", config.qk_norm_width(q_rows));
      layer.k_norm = vector(attention + "k_norm.weight", config.qk_norm_width(kv_rows));
    }
    layer.post_norm = vector(prefix + "post_attention_layernorm.weight", hidden);

    const FamilyRow& row = family_row(config.family);
    const std::string own = prefix + row.mlp;
    const std::string mlp = table_.has_any(own) ? own : prefix + FamilyRow{}.mlp;
    if (!sparse) {
      layer.dense = ffn(mlp, config.dense_intermediate_size);
      return layer;
    }
    layer.router = gate_rows(mlp + row.router, stored);
    if (row.router_bias != nullptr) layer.router_bias = gate_bias(mlp + row.router_bias, stored);
    load_experts(mlp + "experts.", stored, layer.experts);
    if (config.shared_intermediate_size > 0) {
      layer.shared = ffn(mlp + row.shared, config.shared_intermediate_size);
      if (config.shared_gated) layer.shared_gate = matrix(mlp + "shared_expert_gate.weight", 1, hidden);
    }
    return layer;
  }

  RawFfn ffn(const std::string& prefix, int64_t inner) {
    const int64_t hidden = model_.config.hidden_size;
    const auto has = [&](const FamilyRow& row) {
      return table_.has(prefix + row.gate) || table_.has(prefix + row.up) || table_.has(prefix + row.down);
    };
    // An error names a tensor as its file would.
    const FamilyRow &own = family_row(model_.config.family), stock{};
    const FamilyRow& names = has(own) || !has(stock) ? own : stock;
    return {matrix(prefix + names.gate, inner, hidden), matrix(prefix + names.up, inner, hidden),
            matrix(prefix + names.down, hidden, inner)};
  }

  void load_experts(const std::string& prefix, int64_t stored, std::vector<RawFfn>& experts) {
    const ModelConfig& config = model_.config;
    if (family_row(config.family).gpt_oss_experts) return load_gpt_oss_experts(prefix, stored, experts);
    if (!native_ && table_.has(prefix + "gate_up_proj")) return load_fused_experts(prefix, stored, experts);
    for (int64_t expert = 0; expert < stored; ++expert) {
      experts.push_back(ffn(prefix + std::to_string(expert) + ".", config.expert_intermediate_size));
    }
  }

  // gate_up_proj [experts, 2 * inner, hidden] and down_proj [experts, hidden, inner], or both with the last
  // two axes exchanged; gate comes before up. At most one of the two is square, so the other one tells.
  void load_fused_experts(const std::string& prefix, int64_t count, std::vector<RawFfn>& experts) {
    const ModelConfig& config = model_.config;
    const int64_t inner = config.expert_intermediate_size, hidden = config.hidden_size;
    const std::string gate_up_name = prefix + "gate_up_proj", down_name = prefix + "down_proj";
    const bool transposed =
        2 * inner != hidden
            ? table_.shape(gate_up_name) == std::vector<int64_t>{count, hidden, 2 * inner}
            : table_.has(down_name) && table_.shape(down_name) == std::vector<int64_t>{count, inner, hidden};
    const Fused gate_up = fused_tensor(gate_up_name, count, 2 * inner, hidden, transposed);
    const Fused down = fused_tensor(down_name, count, hidden, inner, transposed);
    for (int64_t expert = 0; expert < count; ++expert) {
      experts.push_back(
          {gate_up.rows(expert, 0, inner), gate_up.rows(expert, inner, inner), down.rows(expert, 0, hidden)});
    }
  }

  // gate_up_proj [experts, hidden, 2 * inner] and down_proj [experts, inner, hidden] with biases, in the
  // export of a plan too; rows of gate and up alternate.
  void load_gpt_oss_experts(const std::string& prefix, int64_t count, std::vector<RawFfn>& experts) {
    const ModelConfig& config = model_.config;
    const int64_t inner = config.expert_intermediate_size, hidden = config.hidden_size;
    const Fused gate_up = gpt_oss_tensor(prefix + "gate_up_proj", count, 2 * inner, hidden);
    const Fused down = gpt_oss_tensor(prefix + "down_proj", count, hidden, inner);
    const Tensor gate_up_bias = matrix_tensor(prefix + "gate_up_proj_bias", {count, 2 * inner});
    const Tensor down_bias = matrix_tensor(prefix + "down_proj_bias", {count, hidden});
    const auto bias_of = [&](const Tensor& tensor, int64_t expert, int64_t first, int64_t n, int64_t step) {
      const auto at = static_cast<size_t>(expert * tensor.dim(1) + first);
      return RawMatrix{tensor.as<uint8_t>() + at * dtype_size(config.dtype), config.dtype, n, 1, step, 1};
    };
    for (int64_t expert = 0; expert < count; ++expert) {
      RawFfn ffn;
      ffn.gate = every_second_row(gate_up.whole(expert), 0);
      ffn.up = every_second_row(gate_up.whole(expert), 1);
      ffn.down = down.whole(expert);
      ffn.gate_bias = bias_of(gate_up_bias, expert, 0, inner, 2);
      ffn.up_bias = bias_of(gate_up_bias, expert, 1, inner, 2);
      ffn.down_bias = bias_of(down_bias, expert, 0, hidden, 1);
      experts.push_back(ffn);
    }
  }

  static RawMatrix every_second_row(RawMatrix matrix, int64_t first) {
    const bool halves = matrix.coded();
    const int64_t offset = first * matrix.row_stride;
    matrix.data =
        static_cast<const uint8_t*>(matrix.data) +
        (halves ? static_cast<size_t>(offset / 2) : static_cast<size_t>(offset) * dtype_size(matrix.dtype));
    if (halves) {
      matrix.scales.data = static_cast<const uint8_t*>(matrix.scales.data) + first * matrix.scales.row_stride;
    }
    matrix.n /= 2;
    matrix.row_stride *= 2;
    matrix.scales.row_stride *= 2;
    return matrix;
  }

  // Matrices [n, k] of all experts in one tensor, as the first one's view.
  struct Fused {
    RawMatrix first;
    int64_t scales = 0;  // of an expert

    // Of numbers that lie alone, or two in a byte with byte scales.
    RawMatrix whole(int64_t expert) const {
      if (!first.coded()) return rows(expert, 0, first.n);
      RawMatrix matrix = first;
      matrix.data = static_cast<const uint8_t*>(first.data) + expert * first.n * first.k / 2;
      matrix.scales.data = static_cast<const uint8_t*>(first.scales.data) + expert * scales;
      return matrix;
    }

    RawMatrix rows(int64_t expert, int64_t begin, int64_t count) const {
      RawMatrix matrix = first;
      const int64_t at = expert * first.n * first.k + begin * first.row_stride;
      const size_t element = first.coded() ? 1 : dtype_size(first.dtype);
      matrix.data = static_cast<const uint8_t*>(first.data) + static_cast<size_t>(at) * element;
      matrix.n = count;
      if (!first.coded()) return matrix;
      const size_t scale = first.scales.code == Code::kE8M0 ? 1 : dtype_size(first.scales.dtype);
      matrix.scales.data =
          static_cast<const uint8_t*>(first.scales.data) + static_cast<size_t>(expert * scales) * scale;
      matrix.scales.first_row = begin;
      return matrix;
    }
  };

  Fused fused_tensor(const std::string& name, int64_t count, int64_t n, int64_t k, bool transposed) {
    const int64_t rows = transposed ? k : n, columns = transposed ? n : k;  // as stored
    const Tensor tensor = matrix_tensor(name, {count, rows, columns});
    Fused fused;
    fused.first = {tensor.data, model_.config.dtype, n, k, transposed ? 1 : k, transposed ? n : 1};
    if (!table_.is_coded(name, Code::kE4M3)) return fused;
    BlockScales stored = block_scales(name, count, rows, columns);
    fused.scales = blocks(rows, stored.block_rows) * blocks(columns, stored.block_columns);
    if (transposed) {
      std::swap(stored.block_rows, stored.block_columns);
      std::swap(stored.row_stride, stored.column_stride);
    }
    fused.first.scales = stored;
    return fused;
  }

  // Matrices [n, k]: `name` [count, k, n], or with MXFP4 `name`_blocks [count, n, k / 32, 16] and
  // `name`_scales.
  Fused gpt_oss_tensor(const std::string& name, int64_t count, int64_t n, int64_t k) {
    Fused fused;
    if (!model_.config.mxfp4 && !table_.has(name + "_blocks")) {
      const Tensor tensor = matrix_tensor(name, {count, k, n});
      fused.first = {tensor.data, model_.config.dtype, n, k, 1, n};
      return fused;
    }
    if (!model_.config.mxfp4) {
      throw Error(ExitCode::kData, name + "_blocks",
                  "4-bit weights that config.json does not describe (expected a quantization_config with "
                  "quant_method mxfp4)");
    }
    if (table_.has(name) && !table_.has(name + "_blocks")) {
      throw Error(ExitCode::kData, name,
                  "no 4-bit weights, and config.json says quant_method mxfp4 (expected " + name + "_blocks)",
                  "a checkpoint of plain numbers has no quantization_config");
    }
    const int64_t blocks = k / kMxfp4Block;
    const Tensor codes = table_.get(name + "_blocks", {count, n, blocks, kMxfp4Block / 2}, Code::kByte);
    const Tensor scales = table_.get(name + "_scales", {count, n, blocks}, Code::kByte);
    for (const char* part : {"_blocks", "_scales"}) {
      if (!table_.is_coded(name + part, Code::kByte))
        throw Error(ExitCode::kData, name + part, "wrong dtype (expected U8: MXFP4)");
    }
    fused.first = {codes.data, model_.config.dtype, n, k, k, 1};
    BlockScales& stored = fused.first.scales;
    stored.data = scales.data;
    stored.code = Code::kE8M0;
    stored.block_columns = kMxfp4Block;
    stored.row_stride = blocks;
    stored.numbers = Code::kE2M1;
    fused.scales = n * blocks;
    return fused;
  }

  RawMatrix vocabulary() {
    const ModelConfig& config = model_.config;
    const std::string name = "lm_head.weight";
    const Tensor& embedding = model_.embedding;
    const RawMatrix tied{embedding.data,     embedding.dtype,    config.vocab_size,
                         config.hidden_size, config.hidden_size, 1};
    if (!config.tie_word_embeddings) return matrix(name, config.vocab_size, config.hidden_size);
    if (!table_.has(name)) return tied;
    // Versions of transformers differ on which of two unequal matrices wins.
    const RawMatrix stored = matrix(name, config.vocab_size, config.hidden_size);
    if (stored.coded() || std::memcmp(stored.data, tied.data, embedding.bytes()) != 0) {
      throw Error(ExitCode::kData, name, "differs from the embedding though tie_word_embeddings is true");
    }
    return tied;
  }

  Tensor vector(const std::string& name, int64_t size) { return table_.get(name, {size}); }

  // Of the checkpoint's dtype, or coded.
  Tensor matrix_tensor(const std::string& name, const std::vector<int64_t>& shape) {
    const Tensor tensor = table_.get(name, shape, Code::kE4M3);
    if (tensor.dtype != model_.config.dtype && !table_.is_coded(name, Code::kE4M3)) {
      throw Error(ExitCode::kData, name,
                  "matrices of several dtypes" +
                      expected_got(std::string(dtype_name(model_.config.dtype)) + " as the embedding",
                                   dtype_name(tensor.dtype)));
    }
    return tensor;
  }

  RawMatrix matrix(const std::string& name, int64_t n, int64_t k) {
    const Tensor tensor = matrix_tensor(name, {n, k});
    RawMatrix matrix{tensor.data, model_.config.dtype, n, k, k, 1};
    if (table_.is_coded(name, Code::kE4M3)) matrix.scales = block_scales(name, 0, n, k);
    return matrix;
  }

  static int64_t blocks(int64_t extent, int64_t block) { return (extent + block - 1) / block; }

  // The scales of a coded tensor [n, k], or [count, n, k] where count is not 0.
  BlockScales block_scales(const std::string& name, int64_t count, int64_t n, int64_t k) {
    const Fp8Blocks& fp8 = model_.config.fp8;
    if (!fp8.there) {
      throw Error(ExitCode::kData, name,
                  "8-bit weights that config.json does not describe (expected a quantization_config with "
                  "quant_method fp8)");
    }
    BlockScales scales;
    scales.block_rows = fp8.rows > 0 ? fp8.rows : n;
    scales.block_columns = fp8.columns > 0 ? fp8.columns : k;
    scales.row_stride = blocks(k, scales.block_columns);
    std::vector<int64_t> shape{blocks(n, scales.block_rows), scales.row_stride};
    if (count > 0) shape.insert(shape.begin(), count);
    const std::string stored = name + "_scale_inv";
    if (fp8.rows == 0 && count == 0 && table_.shape(stored).size() < 2) {
      shape.assign(table_.shape(stored).size(), 1);
    }
    const Tensor tensor = table_.get(stored, shape, Code::kE8M0);
    scales.data = tensor.data;
    scales.dtype = tensor.dtype;
    scales.code = table_.is_coded(stored, Code::kE8M0) ? Code::kE8M0 : Code::kNone;
    scales.rank = count > 0 ? 2 : tensor.rank;
    return scales;
  }

  std::string directory_;
  bool native_;
  TensorTable table_;
  RawModel model_;
};

}  // namespace

RawModel load_checkpoint(const std::string& directory) {
  require_model_directory(directory);
  return Loader(directory).load();
}

}  // namespace eep
