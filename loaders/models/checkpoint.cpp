// Finding and checking every tensor of the architecture. Tensors are views into mapped files; nothing is read
// here except headers (and, for a tied model that stores lm_head all the same, that matrix).
#include "loaders/models/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "loaders/formats/safetensors.h"
#include "loaders/models/config_json.h"
#include "loaders/models/families.h"
#include "loaders/models/plan_io.h"

namespace eep {

namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

// All tensors of a directory by name, whichever file they lie in.
class TensorTable {
 public:
  TensorTable(const std::string& directory, const std::string& stem) {
    const std::string single = join_path(directory, stem + ".safetensors");
    const std::string index = join_path(directory, stem + ".safetensors.index.json");
    if (is_there(single)) {
      add_file(single);
    } else if (is_there(index)) {
      add_shards(directory, index);
    } else {
      fail_missing(single, "no such file, and no " + stem + ".safetensors.index.json",
                   "weights in other formats are not read (eep convert reads .gguf)");
    }
  }

  bool has(const std::string& name) const { return tensors_.count(name) != 0; }

  Tensor get(const std::string& name, const std::vector<int64_t>& shape) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail_missing_tensor(name);
    Item& item = found->second;
    if (item.entry.shape != shape) {
      throw Error(
          ExitCode::kData, name,
          "wrong shape (expected " + shape_text(shape) + ", got " + shape_text(item.entry.shape) + ")");
    }
    item.used = true;
    used_bytes_ += item.entry.bytes;
    Tensor tensor;
    tensor.data = const_cast<uint8_t*>(item.data);
    tensor.dtype = dtype_of(name, item.entry.dtype);
    tensor.rank = static_cast<int>(shape.size());
    for (size_t axis = 0; axis < shape.size(); ++axis) tensor.shape[axis] = shape[axis];
    return tensor;
  }

  const std::vector<int64_t>& shape(const std::string& name) const {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) fail_missing_tensor(name);
    return found->second.entry.shape;
  }

  // Names the tensor that lies in its place, if one does.
  [[noreturn]] void fail_missing_tensor(const std::string& name) const {
    static constexpr std::string_view kKnown[] = {"w1.weight",
                                                  "w2.weight",
                                                  "w3.weight",
                                                  "gate_proj.weight",
                                                  "up_proj.weight",
                                                  "down_proj.weight",
                                                  "q_proj.weight",
                                                  "k_proj.weight",
                                                  "v_proj.weight",
                                                  "o_proj.weight",
                                                  "q_proj.bias",
                                                  "k_proj.bias",
                                                  "v_proj.bias",
                                                  "q_norm.weight",
                                                  "k_norm.weight",
                                                  "gate.weight",
                                                  "norm.weight",
                                                  "shared_expert_gate.weight",
                                                  "experts.down_proj",
                                                  "experts.gate_up_proj",
                                                  "input_layernorm.weight",
                                                  "post_attention_layernorm.weight",
                                                  "embed_tokens.weight"};
    const size_t last = name.rfind('.'), owner = last == std::string::npos ? last : name.rfind('.', last - 1);
    const std::string stem = name.substr(0, owner == std::string::npos ? 0 : owner + 1);
    const std::string* beside = nullptr;
    for (const auto& [other, item] : tensors_) {
      if (stem.empty() || !other.starts_with(stem)) continue;
      const std::string_view rest = std::string_view(other).substr(stem.size());
      if (std::find(std::begin(kKnown), std::end(kKnown), rest) != std::end(kKnown)) continue;
      if (std::count(rest.begin(), rest.end(), '.') > 1) continue;
      if (beside == nullptr || other < *beside) beside = &other;
    }
    if (beside == nullptr) throw Error(ExitCode::kData, name, "missing tensor");
    throw Error(ExitCode::kData, name, "missing tensor (beside it lies " + printable(*beside) + ")",
                is_quantised(*beside) ? "a quantised checkpoint: take the original weights" : "");
  }
  static bool is_quantised(std::string_view name) {
    return name.ends_with(".qweight") || name.ends_with("_packed") || name.ends_with("_scale") ||
           name.ends_with("_scale_inv") || name.ends_with(".qzeros") || name.ends_with(".scales") ||
           name.ends_with("_blocks");
  }

  // A tensor that nothing asked for means another architecture or another count than the config's.
  void check_all_used() const {
    const std::string* unexpected = nullptr;
    for (const auto& [name, item] : tensors_) {
      if (item.used || name.ends_with(".rotary_emb.inv_freq")) continue;
      if (unexpected == nullptr || name < *unexpected) unexpected = &name;
    }
    if (unexpected != nullptr) {
      throw Error(ExitCode::kData, printable(*unexpected),
                  "tensor that the architecture in config.json does not have",
                  is_quantised(*unexpected) ? "a quantised checkpoint: take the original weights" : "");
    }
  }

  size_t used_bytes() const { return used_bytes_; }
  std::vector<MappedFile> take_files() { return std::move(files_); }

 private:
  struct Item {
    SafetensorsEntry entry;
    const uint8_t* data;
    size_t file;
    bool used = false;
  };

  static DType dtype_of(const std::string& name, const std::string& dtype) {
    for (DType known : {DType::kF32, DType::kF16, DType::kBF16}) {
      if (dtype == dtype_name(known)) return known;
    }
    throw Error(
        ExitCode::kData, name, "dtype not supported (expected F32, F16 or BF16, got " + dtype + ")",
        dtype == "F64" ? "save it as F32 or BF16" : "a quantised checkpoint: take the original weights");
  }

  void add_file(const std::string& path) {
    SafetensorsFile shard(path);
    for (const SafetensorsEntry& entry : shard.header.entries) {
      const auto [place, inserted] =
          tensors_.emplace(entry.name, Item{entry, shard.data(entry), files_.size()});
      if (!inserted) {
        throw Error(ExitCode::kData, printable(entry.name),
                    "in two shards (" + files_[place->second.file].path() + " and " + path + ")");
      }
    }
    files_.push_back(std::move(shard.file));
  }

  void add_shards(const std::string& directory, const std::string& index_path) {
    const JsonDocument document = JsonDocument::read(index_path);
    const JsonView map = document.root().at("weight_map").as_object();
    std::unordered_map<std::string, size_t> shards;  // file name to its place in files_
    for (const auto& [name, value] : map.value().items()) {
      if (!value.is_string()) map.at(name).fail_expected("a file name");
      const std::string file = value.get<std::string>();
      if (shards.count(file) != 0) continue;
      if (file.empty() || file.find_first_of(std::string_view("/\0", 2)) != std::string::npos ||
          file == "." || file == "..") {
        map.at(name).fail("not the name of a file in this directory");
      }
      shards.emplace(file, files_.size());
      add_file(join_path(directory, file));
    }
    std::unordered_set<std::string_view> listed;
    for (const auto& [name, value] : map.value().items()) {
      const auto found = tensors_.find(name);
      const std::string& file = value.get_ref<const std::string&>();
      if (found == tensors_.end()) map.at(name).fail("tensor is not in its shard " + printable(file));
      if (found->second.file != shards.at(file)) {
        map.at(name).fail("tensor is not in its shard (expected " + printable(file) + ", got " +
                          files_[found->second.file].path() + ")");
      }
      listed.insert(name);
    }
    if (listed.size() == tensors_.size()) return;
    for (const auto& [name, item] : tensors_) {
      if (listed.count(name) != 0) continue;
      throw Error(ExitCode::kData, files_[item.file].path(),
                  "tensor " + printable(name) + " is not listed in the index");
    }
  }

  std::vector<MappedFile> files_;
  std::unordered_map<std::string, Item> tensors_;
  size_t used_bytes_ = 0;
};

class Loader {
 public:
  explicit Loader(const std::string& directory)
      : native_(is_there(join_path(directory, kNativeConfig))), table_(directory, native_ ? "eep" : "model") {
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
    table_.check_all_used();
    model_.bytes = table_.used_bytes();
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
    RawMatrix gate = matrix(name, stored, config.hidden_size);
    const size_t row = static_cast<size_t>(config.hidden_size) * dtype_size(gate.dtype);
    auto bytes = std::make_shared<std::vector<uint8_t>>(row * static_cast<size_t>(config.num_experts));
    std::memcpy(bytes->data(), gate.data, row * static_cast<size_t>(stored));
    gate.data = bytes->data();
    gate.n = config.num_experts;
    model_.owned.push_back(std::move(bytes));
    return gate;
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
    const int64_t hidden = config.hidden_size, head = config.head_dim;
    const int64_t q_rows = config.num_heads * head, kv_rows = config.num_kv_heads * head;
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
    if (config.qk_norm) {
      layer.q_norm = vector(attention + "q_norm.weight", head);
      layer.k_norm = vector(attention + "k_norm.weight", head);
    }
    layer.post_norm = vector(prefix + "post_attention_layernorm.weight", hidden);

    const std::string own = prefix + family_row(config.family).mlp;
    const std::string mlp = table_.has(own + "gate.weight") ? own : prefix + FamilyRow{}.mlp;
    if (!sparse) {
      layer.dense = ffn(mlp, config.dense_intermediate_size);
      return layer;
    }
    layer.router = gate_rows(mlp + "gate.weight", stored);
    load_experts(mlp + "experts.", stored, layer.experts);
    if (config.shared_intermediate_size > 0) {
      layer.shared = ffn(mlp + "shared_expert.", config.shared_intermediate_size);
      layer.shared_gate = matrix(mlp + "shared_expert_gate.weight", 1, hidden);
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
    const Tensor gate_up = transposed ? matrix_tensor(gate_up_name, {count, hidden, 2 * inner})
                                      : matrix_tensor(gate_up_name, {count, 2 * inner, hidden});
    const Tensor down = transposed ? matrix_tensor(down_name, {count, inner, hidden})
                                   : matrix_tensor(down_name, {count, hidden, inner});
    const auto view = [](const Tensor& tensor, int64_t offset, int64_t n, int64_t k, int64_t row_stride,
                         int64_t column_stride) {
      const auto* bytes = static_cast<const uint8_t*>(tensor.data);
      return RawMatrix{bytes + static_cast<size_t>(offset) * dtype_size(tensor.dtype),
                       tensor.dtype,
                       n,
                       k,
                       row_stride,
                       column_stride};
    };
    for (int64_t expert = 0; expert < count; ++expert) {
      const int64_t pair = expert * 2 * inner * hidden, single = expert * inner * hidden;
      if (transposed) {
        experts.push_back({view(gate_up, pair, inner, hidden, 1, 2 * inner),
                           view(gate_up, pair + inner, inner, hidden, 1, 2 * inner),
                           view(down, single, hidden, inner, 1, hidden)});
      } else {
        experts.push_back({view(gate_up, pair, inner, hidden, hidden, 1),
                           view(gate_up, pair + inner * hidden, inner, hidden, hidden, 1),
                           view(down, single, hidden, inner, inner, 1)});
      }
    }
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
    if (std::memcmp(stored.data, tied.data, embedding.bytes()) != 0) {
      throw Error(ExitCode::kData, name, "differs from the embedding though tie_word_embeddings is true");
    }
    return tied;
  }

  Tensor vector(const std::string& name, int64_t size) { return table_.get(name, {size}); }

  Tensor matrix_tensor(const std::string& name, const std::vector<int64_t>& shape) {
    const Tensor tensor = table_.get(name, shape);
    if (tensor.dtype != model_.config.dtype) {
      throw Error(ExitCode::kData, name,
                  std::string("matrices of several dtypes (expected ") + dtype_name(model_.config.dtype) +
                      " as the embedding, got " + dtype_name(tensor.dtype) + ")");
    }
    return tensor;
  }

  RawMatrix matrix(const std::string& name, int64_t n, int64_t k) {
    const Tensor tensor = matrix_tensor(name, {n, k});
    return {tensor.data, tensor.dtype, n, k, k, 1};
  }

  bool native_;
  TensorTable table_;
  RawModel model_;
};

}  // namespace

RawModel load_checkpoint(const std::string& directory) {
  if (!directory_exists(directory)) fail_missing(directory, "no such model directory");
  return Loader(directory).load();
}

}  // namespace eep
