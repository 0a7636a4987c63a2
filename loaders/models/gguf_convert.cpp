#include "loaders/models/gguf_convert.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

#include "kernels/common/expected.h"
#include "kernels/common/float16.h"
#include "kernels/router.h"
#include "loaders/models/families.h"

namespace eep {

namespace {

constexpr int64_t kMaxLayers = 4096, kMaxWidth = int64_t{1} << 20;
constexpr int64_t kPartElements = int64_t{1} << 20;

std::string layer_name(int64_t layer, const std::string& name) {
  return fmt::format("blk.{}.{}", layer, name);
}

void round_to(DType dtype, const std::vector<float>& values, std::vector<uint8_t>& bytes) {
  bytes.resize(values.size() * dtype_size(dtype));
  if (dtype == DType::kF32) {
    std::copy_n(reinterpret_cast<const uint8_t*>(values.data()), bytes.size(), bytes.data());
    return;
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = dtype == DType::kF16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    bytes[2 * i] = static_cast<uint8_t>(bits);
    bytes[2 * i + 1] = static_cast<uint8_t>(bits >> 8);
  }
}

// The stored row of each row, for q and k of architecture llama: pairs of a head lie side by side there, in
// halves here.
int64_t stored_row(int64_t row, int64_t head_dim) {
  const int64_t head = row / head_dim, within = row % head_dim, half = head_dim / 2;
  return head * head_dim + 2 * (within % half) + within / half;
}

// Llama without experts: GGUF has one architecture for it and Mixtral.
constexpr FamilyRow kLlama{
    .architecture = "LlamaForCausalLM", .gguf = "llama", .dense_layers = false, .gguf_pairs = true};

class Converter {
 public:
  Converter(const GgufFile& file, DType dtype) : file_(file), dtype_(dtype) {}

  ConvertedModel convert() {
    if (file_.find_value("split.count") != nullptr && file_.integer("split.count", 0, 1 << 16) > 1) {
      throw Error(ExitCode::kData, file_.where, "split.count: one of several files (expected a whole model)",
                  "llama.cpp's gguf-split --merge joins them");
    }
    const std::string& architecture = file_.text("general.architecture");
    family_ = find_family(architecture);
    prefix_ = architecture + ".";
    experts_ =
        file_.find_value(prefix_ + "expert_count") == nullptr ? 0 : integer("expert_count", 0, kMaxExperts);
    layers_ = integer("block_count", 1, kMaxLayers);
    hidden_ = integer("embedding_length", 1, kMaxWidth);
    heads_ = integer("attention.head_count", 1, 4096);
    kv_heads_ = optional_integer("attention.head_count_kv", heads_, 1, heads_);
    head_dim_ = optional_integer(
        "attention.key_length", optional_integer("rope.dimension_count", hidden_ / heads_, 2, 4096), 2, 4096);
    if (heads_ % kv_heads_ != 0 || head_dim_ < 2 || head_dim_ % 2 != 0) {
      throw Error(ExitCode::kData, file_.where, "numbers of heads that do not fit together");
    }
    read_rope();
    // Layers for multi-token prediction come last.
    layers_ -= optional_integer("nextn_predict_layers", 0, 0, layers_ - 1);
    if (family_.score == RouterScore::kSigmoid && integer("expert_gating_func", 0, 16) != 2) {
      throw Error(ExitCode::kData, file_.where, prefix_ + "expert_gating_func: not sigmoid (expected 2)");
    }
    has_bias_ = family_.bias_key != nullptr && (family_.bias || file_.find("blk.0.attn_q.bias") != nullptr);
    has_norms_ = family_.qk_norm != QkNorm::kNone &&
                 (family_.qk_norm_key == nullptr || file_.find("blk.0.attn_q_norm.weight") != nullptr);
    model_.dense_llama = architecture == kLlama.gguf && experts_ == 0;
    if (model_.dense_llama) family_ = kLlama;
    const GgufTensor& embedding = tensor("token_embd.weight");
    vocabulary_ = embedding.shape[0];
    add("model.embed_tokens.weight", "token_embd.weight", {vocabulary_, hidden_});
    for (int64_t layer = 0; layer < layers_; ++layer) add_layer(layer);
    if (experts_ > 0 && expert_width_ == 0)
      throw Error(ExitCode::kData, file_.where, prefix_ + "expert_count: no layer has experts");
    add("model.norm.weight", "output_norm.weight", {hidden_});
    tied_ = file_.find("output.weight") == nullptr;
    if (!tied_) add("lm_head.weight", "output.weight", {vocabulary_, hidden_});
    for (const GgufTensor& each : file_.tensors) {
      if (used_.count(each.name) == 0 && !beyond_layers(each.name)) {
        throw Error(ExitCode::kData, printable(each.name),
                    "tensor that is not known in architecture " + architecture);
      }
    }
    model_.config = config();
    return std::move(model_);
  }

 private:
  FamilyRow find_family(const std::string& architecture) const {
    std::vector<std::string_view> known;
    for (const FamilyRow& row : families()) {
      if (row.gguf.empty()) continue;
      if (row.gguf == architecture) return row;
      known.push_back(row.gguf);
    }
    throw Error(ExitCode::kData, file_.where,
                "architecture not supported" +
                    expected_got(fmt::format("one of {}", fmt::join(known, ", ")), printable(architecture)));
  }

  int64_t integer(const std::string& key, int64_t smallest, int64_t largest) const {
    return file_.integer(prefix_ + key, smallest, largest);
  }
  int64_t optional_integer(const std::string& key, int64_t fallback, int64_t smallest,
                           int64_t largest) const {
    return file_.find_value(prefix_ + key) == nullptr ? fallback : integer(key, smallest, largest);
  }

  void read_rope() {
    const std::string key = prefix_ + "rope.scaling.type";
    yarn_ = family_.rope_said && file_.find_value(key) != nullptr && file_.text(key) == "yarn";
    if (!yarn_ && file_.find_value(key) != nullptr && file_.text(key) != "none") {
      throw Error(ExitCode::kData, file_.where, key + ": rotary scaling not supported");
    }
    turned_ = optional_integer("rope.dimension_count", head_dim_, 2, 4096);
    if (turned_ != head_dim_ && (family_.partial_rotary == 1 || turned_ > head_dim_)) {
      throw Error(ExitCode::kData, file_.where,
                  prefix_ + "rope.dimension_count: only whole heads are rotated");
    }
  }

  // Whether it is one of a layer for multi-token prediction.
  bool beyond_layers(const std::string& name) const {
    int64_t layer = -1;
    if (!name.starts_with("blk.")) return false;
    std::from_chars(name.data() + 4, name.data() + name.size(), layer);
    return layer >= layers_ && layer < integer("block_count", 1, kMaxLayers);
  }

  const GgufTensor& tensor(const std::string& name) {
    const GgufTensor* found = file_.find(name);
    if (found == nullptr) throw Error(ExitCode::kData, name, "missing tensor");
    used_.insert(name);
    return *found;
  }

  // The part of a stored tensor that begins at row `first`; its own shape must be `whole`.
  void add(const std::string& name, const std::string& stored, const std::vector<int64_t>& whole,
           std::vector<int64_t> shape = {}, int64_t first = 0, bool permuted = false) {
    add_as(dtype_, name, stored, whole, std::move(shape), first, permuted);
  }

  const GgufTensor& shaped(const std::string& stored, const std::vector<int64_t>& whole) {
    const GgufTensor& source = tensor(stored);
    if (source.shape == whole) return source;
    throw Error(ExitCode::kData, stored,
                "wrong shape" + expected_got(fmt::format("[{}]", fmt::join(whole, ", ")),
                                             fmt::format("[{}]", fmt::join(source.shape, ", "))));
  }

  void add_as(DType dtype, const std::string& name, const std::string& stored,
              const std::vector<int64_t>& whole, std::vector<int64_t> shape = {}, int64_t first = 0,
              bool permuted = false) {
    const GgufTensor& source = shaped(stored, whole);
    if (shape.empty()) shape = whole;
    const int64_t row_elements = shape.back();
    const int64_t rows = shape.size() == 1 ? 1 : shape[0];
    const int64_t head_dim = permuted ? head_dim_ : 0;
    model_.tensors.push_back({{name, dtype, shape}, [=, &source](const ByteSink& sink) {
                                produce(source, first, rows, row_elements, head_dim, dtype, sink);
                              }});
  }

  static void produce(const GgufTensor& source, int64_t first, int64_t rows, int64_t row_elements,
                      int64_t head_dim, DType dtype, const ByteSink& sink) {
    const size_t row_bytes =
        static_cast<size_t>(row_elements / gguf_block_elements(source.type)) * gguf_block_bytes(source.type);
    const int64_t step = std::max<int64_t>(kPartElements / row_elements, 1);
    std::vector<float> values;
    std::vector<uint8_t> bytes;
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t end = std::min(begin + step, rows);
      values.resize(static_cast<size_t>((end - begin) * row_elements));
      for (int64_t row = begin; row < end; ++row) {
        const int64_t from = first + (head_dim > 0 ? stored_row(row, head_dim) : row);
        gguf_dequantise(source.type, source.data + static_cast<size_t>(from) * row_bytes, row_elements,
                        values.data() + (row - begin) * row_elements);
      }
      round_to(dtype, values, bytes);
      sink(bytes.data(), bytes.size());
    }
  }

  void add_projection(int64_t layer, const char* letter, int64_t heads, bool permuted) {
    const std::string stored = layer_name(layer, std::string("attn_") + letter);
    const std::string name = fmt::format("model.layers.{}.self_attn.{}_proj", layer, letter);
    const int64_t rows = heads * head_dim_;
    add(name + ".weight", stored + ".weight", {rows, hidden_}, {}, 0, permuted && family_.gguf_pairs);
    if (has_bias_) add(name + ".bias", stored + ".bias", {rows});
  }

  void add_layer(int64_t layer) {
    const std::string name = fmt::format("model.layers.{}.", layer);
    add(name + "input_layernorm.weight", layer_name(layer, "attn_norm.weight"), {hidden_});
    add_projection(layer, "q", heads_, true);
    add_projection(layer, "k", kv_heads_, true);
    add_projection(layer, "v", kv_heads_, false);
    add(name + "self_attn.o_proj.weight", layer_name(layer, "attn_output.weight"),
        {hidden_, heads_ * head_dim_});
    if (family_.o_bias) add(name + "self_attn.o_proj.bias", layer_name(layer, "attn_output.bias"), {hidden_});
    if (family_.sinks) add(name + "self_attn.sinks", layer_name(layer, "attn_sinks.weight"), {heads_});
    if (has_norms_) {
      const bool head = family_.qk_norm == QkNorm::kHead;
      add(name + "self_attn.q_norm.weight", layer_name(layer, "attn_q_norm.weight"),
          {head ? head_dim_ : heads_ * head_dim_});
      add(name + "self_attn.k_norm.weight", layer_name(layer, "attn_k_norm.weight"),
          {head ? head_dim_ : kv_heads_ * head_dim_});
    }
    add(name + "post_attention_layernorm.weight",
        layer_name(layer, family_.gguf_post_norm + std::string(".weight")), {hidden_});
    const std::string mlp = name + family_.mlp;
    if (experts_ == 0 || file_.find(layer_name(layer, "ffn_gate_inp.weight")) == nullptr) {
      // Where every layer has experts, or every one after the first, it is missing.
      const bool first = family_.first_dense && layer == static_cast<int64_t>(dense_layers_.size());
      if (experts_ > 0 && !family_.dense_layers && !first) tensor(layer_name(layer, "ffn_gate_inp.weight"));
      if (experts_ > 0) dense_layers_.push_back(layer);
      add_ffn(mlp, layer, "", &dense_width_);
      return;
    }
    add(mlp + family_.router, layer_name(layer, "ffn_gate_inp.weight"), {experts_, hidden_});
    if (family_.router_bias != nullptr) {
      const bool in_choice = family_.score == RouterScore::kSigmoid;  // in f32 in every checkpoint
      add_as(in_choice ? DType::kF32 : dtype_, mlp + family_.router_bias,
             layer_name(layer, in_choice ? "exp_probs_b.bias" : "ffn_gate_inp.bias"), {experts_});
    }
    if (family_.gpt_oss_experts) return add_fused_experts(mlp + "experts.", layer);
    add_experts(mlp + "experts.", layer);
    if (family_.shared_count_key != nullptr &&
        file_.find(layer_name(layer, "ffn_gate_shexp.weight")) != nullptr)
      add_ffn(mlp + family_.shared, layer, "_shexp", &shared_width_);
    if (family_.shared_width_key != nullptr) {
      add_ffn(mlp + "shared_expert.", layer, "_shexp", &shared_width_);
      const GgufTensor& gate = tensor(layer_name(layer, "ffn_gate_inp_shexp.weight"));
      add(mlp + "shared_expert_gate.weight", gate.name, gate.shape, {1, hidden_});
      if (gate.shape.back() != hidden_) throw Error(ExitCode::kData, gate.name, "wrong shape");
    }
  }

  // The width of all layers' FFNs of one kind, from the first.
  int64_t width_of(const std::string& stored, size_t axis, int64_t* width) {
    const GgufTensor& gate = tensor(stored);
    if (gate.shape.size() <= axis) throw Error(ExitCode::kData, stored, "too few dimensions");
    if (*width == 0) *width = gate.shape[axis];
    return *width;
  }

  void add_ffn(const std::string& name, int64_t layer, const std::string& kind, int64_t* width) {
    const auto stored = [&](const char* part) {
      return layer_name(layer, std::string("ffn_") + part + kind + ".weight");
    };
    const int64_t inner = width_of(stored("gate"), 0, width);
    add(name + "gate_proj.weight", stored("gate"), {inner, hidden_});
    add(name + "up_proj.weight", stored("up"), {inner, hidden_});
    add(name + "down_proj.weight", stored("down"), {hidden_, inner});
  }

  // One tensor for all experts of a layer, or (older Mixtral files) one an expert.
  void add_experts(const std::string& name, int64_t layer) {
    if (!family_.dense_layers && file_.find(layer_name(layer, "ffn_gate_exps.weight")) == nullptr &&
        file_.find(layer_name(layer, "ffn_gate.0.weight")) != nullptr) {
      return add_single_experts(name, layer);
    }
    const auto stored = [&](const char* part) {
      return layer_name(layer, std::string("ffn_") + part + "_exps.weight");
    };
    const int64_t inner = width_of(stored("gate"), 1, &expert_width_);
    for (int64_t expert = 0; expert < experts_; ++expert) {
      const std::string own = name + std::to_string(expert) + ".";
      add(own + family_.gate, stored("gate"), {experts_, inner, hidden_}, {inner, hidden_}, expert * inner);
      add(own + family_.up, stored("up"), {experts_, inner, hidden_}, {inner, hidden_}, expert * inner);
      add(own + family_.down, stored("down"), {experts_, hidden_, inner}, {hidden_, inner}, expert * hidden_);
    }
  }

  // Of gpt-oss: [experts, in, out], gate's and up's columns in turn, and their biases.
  void add_fused_experts(const std::string& name, int64_t layer) {
    const auto stored = [&](const char* part, const char* kind) {
      return layer_name(layer, fmt::format("ffn_{}_exps.{}", part, kind));
    };
    const int64_t inner = width_of(stored("gate", "weight"), 1, &expert_width_);
    const auto both = [&](const char* kind, const std::vector<int64_t>& shape) {
      return std::vector{&shaped(stored("gate", kind), shape), &shaped(stored("up", kind), shape)};
    };
    add_interleaved(name + "gate_up_proj", {experts_, hidden_, 2 * inner},
                    both("weight", {experts_, inner, hidden_}), inner, hidden_);
    add_interleaved(name + "gate_up_proj_bias", {experts_, 2 * inner}, both("bias", {experts_, inner}), inner,
                    1);
    add_interleaved(name + "down_proj", {experts_, inner, hidden_},
                    {&shaped(stored("down", "weight"), {experts_, hidden_, inner})}, hidden_, inner);
    add(name + "down_proj_bias", stored("down", "bias"), {experts_, hidden_});
  }

  // Of each expert the transposed [n, k] of every part, their columns in turn: [k, n * parts].
  void add_interleaved(const std::string& name, std::vector<int64_t> shape,
                       std::vector<const GgufTensor*> parts, int64_t n, int64_t k) {
    const auto produce = [=, experts = experts_, dtype = dtype_](const ByteSink& sink) {
      std::vector<float> from(static_cast<size_t>(n * k)), to(from.size() * parts.size());
      std::vector<uint8_t> bytes;
      for (int64_t expert = 0; expert < experts; ++expert) {
        for (size_t part = 0; part < parts.size(); ++part) {
          const GgufTensor& source = *parts[part];
          const size_t size = from.size() / static_cast<size_t>(gguf_block_elements(source.type)) *
                              gguf_block_bytes(source.type);
          gguf_dequantise(source.type, source.data + static_cast<size_t>(expert) * size, n * k, from.data());
          for (int64_t i = 0; i < n; ++i) {
            for (int64_t j = 0; j < k; ++j)
              to[static_cast<size_t>(j * n + i) * parts.size() + part] = from[static_cast<size_t>(i * k + j)];
          }
        }
        round_to(dtype, to, bytes);
        sink(bytes.data(), bytes.size());
      }
    };
    model_.tensors.push_back({{name, dtype_, std::move(shape)}, produce});
  }

  void add_single_experts(const std::string& name, int64_t layer) {
    for (int64_t expert = 0; expert < experts_; ++expert) {
      const auto stored = [&](const char* part) {
        return layer_name(layer, fmt::format("ffn_{}.{}.weight", part, expert));
      };
      const int64_t inner = width_of(stored("gate"), 0, &expert_width_);
      const std::string own = name + std::to_string(expert) + ".";
      add(own + family_.gate, stored("gate"), {inner, hidden_});
      add(own + family_.up, stored("up"), {inner, hidden_});
      add(own + family_.down, stored("down"), {hidden_, inner});
    }
  }

  // A float as JSON spells it shortest: 1e-05, not 9.999999747378752e-06.
  Json shortest(const std::string& key) const {
    return Json::parse(fmt::format("{}", static_cast<float>(file_.real(prefix_ + key))));
  }

  Json config() const {
    const bool one_width = family_.expert_width_key == std::string_view("intermediate_size");
    Json config{{"architectures", {family_.architecture}},
                {"model_type", model_.dense_llama ? "llama" : family_name(family_.family)},
                {"vocab_size", vocabulary_},
                {"hidden_size", hidden_},
                {"intermediate_size", one_width ? expert_width_ : dense_width_},
                {"num_hidden_layers", layers_},
                {"num_attention_heads", heads_},
                {"num_key_value_heads", kv_heads_},
                {"head_dim", head_dim_},
                {"hidden_act", "silu"},
                {"max_position_embeddings", integer("context_length", 1, int64_t{1} << 28)},
                {"rms_norm_eps", shortest("attention.layer_norm_rms_epsilon")},
                {"rope_theta",
                 file_.find_value(prefix_ + "rope.freq_base") ? shortest("rope.freq_base") : Json(10000.0)},
                {"tie_word_embeddings", tied_},
                {"torch_dtype", dtype_ == DType::kF32   ? "float32"
                                : dtype_ == DType::kF16 ? "float16"
                                                        : "bfloat16"}};
    if (family_.dense_layers && dense_width_ == 0) {
      config["intermediate_size"] = optional_integer("feed_forward_length", expert_width_, 1, kMaxWidth);
    }
    for (const char* name : {"bos", "eos"}) {
      const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
      if (file_.find_value(key) != nullptr) {
        config[fmt::format("{}_token_id", name)] = file_.integer(key, 0, vocabulary_ - 1);
      }
    }
    if (experts_ == 0) return config;
    config[family_.experts_key] = experts_;
    config["num_experts_per_tok"] = integer("expert_used_count", 1, experts_);
    if (family_.sliding_window) config["sliding_window"] = nullptr;
    if (family_.dense_layers) add_dense_layers(config);
    if (family_.first_dense) add_glm(config);
    if (family_.gpt_oss_experts) add_gpt_oss(config);
    return config;
  }

  void add_glm(Json& config) const {
    config[family_.expert_width_key] = expert_width_;
    config["first_k_dense_replace"] = dense_layers_.size();
    if (dense_width_ == 0)
      config["intermediate_size"] = optional_integer("feed_forward_length", expert_width_, 1, kMaxWidth);
    if (shared_width_ % expert_width_ != 0) {
      throw Error(ExitCode::kData, file_.where,
                  fmt::format("a shared expert of width {} (expected a multiple of the experts' {})",
                              shared_width_, expert_width_));
    }
    config[family_.shared_count_key] = shared_width_ / expert_width_;
    config[family_.bias_key] = has_bias_;
    config[family_.qk_norm_key] = has_norms_;
    const GgufValue* const normalised = file_.find_value(prefix_ + "expert_weights_norm");
    config["norm_topk_prob"] = normalised != nullptr && normalised->integers == std::vector<int64_t>{1};
    config["routed_scaling_factor"] = file_.find_value(prefix_ + "expert_weights_scale") != nullptr
                                          ? shortest("expert_weights_scale")
                                          : Json(1.0);
    config["n_group"] = optional_integer("expert_group_count", 1, 1, kMaxExperts);
    config["topk_group"] = optional_integer("expert_group_used_count", 1, 1, kMaxExperts);
    config["partial_rotary_factor"] = static_cast<double>(turned_) / static_cast<double>(head_dim_);
  }

  // What is the same in every file of the family is not in it: every second layer has the window, from the
  // first; the limits of yarn's ramp are not rounded.
  void add_gpt_oss(Json& config) const {
    config["sliding_window"] = integer("attention.sliding_window", 1, int64_t{1} << 28);
    config["rope_scaling"] = {{"rope_type", "default"}};
    if (!yarn_) return;
    config["rope_scaling"] = {{"rope_type", "yarn"},
                              {"factor", shortest("rope.scaling.factor")},
                              {"original_max_position_embeddings",
                               integer("rope.scaling.original_context_length", 1, int64_t{1} << 28)},
                              {"truncate", false}};
    for (const char* beta : {"beta_fast", "beta_slow"}) {
      const std::string key = fmt::format("rope.scaling.yarn_{}", beta);
      if (file_.find_value(prefix_ + key) != nullptr) config["rope_scaling"][beta] = shortest(key);
    }
  }

  void add_dense_layers(Json& config) const {
    config[family_.expert_width_key] = expert_width_;
    config["norm_topk_prob"] = family_.gguf_renormalises;
    config["decoder_sparse_step"] = 1;
    config["mlp_only_layers"] = dense_layers_;
    if (family_.shared_width_key != nullptr) config[family_.shared_width_key] = shared_width_;
  }

  const GgufFile& file_;
  DType dtype_;
  std::string prefix_;  // of the keys: the architecture and a dot
  FamilyRow family_;
  int64_t experts_ = 0, layers_ = 0, hidden_ = 0, heads_ = 0, kv_heads_ = 0, head_dim_ = 0, vocabulary_ = 0;
  int64_t dense_width_ = 0, expert_width_ = 0, shared_width_ = 0;
  int64_t turned_ = 0;  // elements of a head
  bool tied_ = false, yarn_ = false, has_bias_ = false, has_norms_ = false;
  std::vector<int64_t> dense_layers_;
  std::set<std::string> used_;
  ConvertedModel model_;
};

}  // namespace

DType gguf_natural_dtype(const GgufFile& file) {
  std::set<GgufType> types;
  for (const GgufTensor& tensor : file.tensors) {
    if (tensor.shape.size() > 1) types.insert(tensor.type);
  }
  if (types.size() != 1) return DType::kBF16;
  const GgufType only = *types.begin();
  return only == GgufType::kF32 ? DType::kF32 : only == GgufType::kF16 ? DType::kF16 : DType::kBF16;
}

ConvertedModel convert_gguf(const GgufFile& file, DType dtype) { return Converter(file, dtype).convert(); }

void make_one_expert(ConvertedModel& model) {
  const FamilyRow& mixtral = family_row(Family::kMixtral);
  model.config["architectures"] = {mixtral.architecture};
  model.config["model_type"] = family_name(mixtral.family);
  model.config[mixtral.experts_key] = 1;
  model.config["num_experts_per_tok"] = 1;
  model.config["sliding_window"] = nullptr;
  std::vector<StreamedTensor> tensors;
  for (StreamedTensor& tensor : model.tensors) {
    std::string& name = tensor.spec.name;
    for (const auto& [part, numbered] :
         {std::pair{kLlama.gate, mixtral.gate}, {kLlama.up, mixtral.up}, {kLlama.down, mixtral.down}}) {
      const std::string own = std::string(".") + kLlama.mlp + part;
      const size_t at = name.find(own);
      if (at == std::string::npos) continue;
      const std::string layer = name.substr(0, at);
      if (part == kLlama.gate) {
        const SafetensorsSpec router{
            layer + "." + mixtral.mlp + "gate.weight", tensor.spec.dtype, {1, tensor.spec.shape[1]}};
        tensors.push_back({router, [bytes = tensor_bytes(router)](const ByteSink& sink) {
                             const std::vector<uint8_t> zeros(bytes, 0);
                             sink(zeros.data(), zeros.size());
                           }});
      }
      name = layer + "." + mixtral.mlp + "experts.0." + numbered;
    }
    tensors.push_back(std::move(tensor));
  }
  model.tensors = std::move(tensors);
  model.dense_llama = false;
}

}  // namespace eep
