// The keys of config.json, their defaults in transformers, and what no model can have.
#include "loaders/models/config_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/expected.h"
#include "kernels/router.h"
#include "loaders/models/families.h"
#include "loaders/models/model_directory.h"
#include "loaders/models/support.h"

namespace eep {

namespace {

constexpr int64_t kMaxVocabulary = int64_t{1} << 24;
constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4096;
constexpr int64_t kMaxHeads = 4096;
constexpr int64_t kMaxHeadDim = 4096;
constexpr int64_t kMaxPositions = int64_t{1} << 28;

Family read_family(const JsonView& root) {
  const JsonView type = root.at("model_type");
  std::vector<std::string> known;
  for (const FamilyRow& row : families()) {
    known.emplace_back(family_name(row.family));
    if (type.as_string() == known.back()) return row.family;
  }
  type.fail(
      "architecture not supported" +
      expected_got(fmt::format("one of {}", fmt::join(known, ", ")), printable(type.as_string())) +
      fmt::format("; missing: {}{}", fmt::join(model_support(root.value()).missing, "; "),
                  root.has_value("text_config")
                      ? "; the text model's fields stand under text_config: save the text model on its own"
                      : ""));
}

DType read_dtype(const JsonView& root) {
  const char* key = root.has_value("dtype") ? "dtype" : "torch_dtype";
  std::string name = root.string_or(key, "bfloat16");
  if (name.rfind("torch.", 0) == 0) name.erase(0, 6);
  if (name == "float32") return DType::kF32;
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  root.at(key).fail_expected("float32, float16 or bfloat16");
}

// Blocks of E4M3 numbers with a scale each; activations are not rounded here, so only weights matter.
void read_quantisation(const JsonView& root, ModelConfig& config) {
  if (!root.has_value("quantization_config")) return;
  const JsonView quantisation = root.at("quantization_config").as_object();
  const std::string method = quantisation.string_or("quant_method", "?");
  const bool halves = family_row(config.family).gpt_oss_experts;
  if (method != (halves ? "mxfp4" : "fp8")) {
    quantisation.fail(
        "weights quantised by " + printable(method) + " not supported (expected " +
        (halves ? "mxfp4: blocks and scales of the experts" : "fp8: E4M3 with weight_scale_inv") +
        "; or the model's 16-bit release)");
  }
  config.mxfp4 = halves;
  if (halves) return;
  if (quantisation.string_or("fmt", "e4m3") != "e4m3") quantisation.at("fmt").fail_expected("e4m3");
  if (quantisation.string_or("activation_scheme", "dynamic") != "dynamic") {
    quantisation.at("activation_scheme").fail_expected("dynamic");
  }
  config.fp8.there = true;
  if (quantisation.has_value("modules_to_not_convert")) {
    const JsonView names = quantisation.at("modules_to_not_convert").as_array();
    for (size_t i = 0; i < names.size(); ++i)
      config.fp8.names_experts |= names.at(i).as_string().find(".experts.") != std::string::npos;
  }
  if (!quantisation.has_value("weight_block_size")) return;
  const JsonView block = quantisation.at("weight_block_size").as_array();
  if (block.size() != 2) block.fail_expected("two numbers");
  config.fp8.rows = block.at(size_t{0}).as_int(1, kMaxWidth);
  config.fp8.columns = block.at(size_t{1}).as_int(1, kMaxWidth);
}

void read_yarn(const JsonView& rope, RopeScaling& scaling, int64_t max_positions) {
  for (const char* key : {"mscale", "mscale_all_dim"}) {
    if (rope.has_value(key)) rope.at(key).fail("not supported");
  }
  const auto positive = [&](const char* key, double fallback) {
    const double value = rope.number_or(key, fallback);
    if (!(value > 0)) rope.at(key).fail_expected("a number above 0");
    return value;
  };
  scaling.factor = rope.at("factor").as_number();
  if (!(scaling.factor >= 1)) rope.at("factor").fail_expected("a number of at least 1");
  scaling.original_max_position =
      positive("original_max_position_embeddings", static_cast<double>(max_positions));
  scaling.beta_fast = positive("beta_fast", scaling.beta_fast);
  scaling.beta_slow = positive("beta_slow", scaling.beta_slow);
  if (rope.has_value("attention_factor")) scaling.attention_factor = positive("attention_factor", 1);
  scaling.truncate = rope.bool_or("truncate", true);
}

// v5: rope_parameters holds everything; v4: rope_theta beside rope_scaling.
void read_rope(const JsonView& root, ModelConfig& config) {
  const bool v5 = root.has_value("rope_parameters");
  const char* key = v5 ? "rope_parameters" : "rope_scaling";
  config.rope_theta = root.number_or("rope_theta", family_row(config.family).rope_theta);
  const double part = family_row(config.family).partial_rotary;
  const char* partial = "partial_rotary_factor";
  double factor = root.number_or(partial, part);
  std::string written = root.has_value(partial) ? root.at(partial).written() : fmt::format("{}", part);
  if (part == 1 && factor != 1) root.at(partial).fail_expected("1");

  std::string type = "default";
  if (family_row(config.family).rope_said && !root.has_value(key))
    root.fail("rope_parameters and rope_scaling are missing: nothing says how positions turn");
  if (root.has_value(key)) {
    const JsonView rope = root.at(key).as_object();
    if (v5) config.rope_theta = rope.number_or("rope_theta", config.rope_theta);
    factor = rope.number_or(partial, factor);
    if (rope.has_value(partial)) written = rope.at(partial).written();
    if (part == 1 && factor != 1) rope.at(partial).fail_expected("1");
    const char* type_key = rope.has_value("rope_type") ? "rope_type" : "type";
    if (v5 || rope.size() > 0) type = rope.at(type_key).as_string();
    if (type == "yarn") {
      read_yarn(rope, config.rope_scaling, config.max_positions);
    } else if (type != "default") {
      rope.at(type_key).fail("rotary scaling not supported" +
                             expected_got("default or yarn", printable(type)));
    }
  }
  if (factor != 1) {
    config.rotary_dim =
        factor > 0 && factor < 1 ? static_cast<int64_t>(static_cast<double>(config.head_dim) * factor) : 0;
    if (config.rotary_dim < 2 || config.rotary_dim % 2 != 0)
      root.fail("partial_rotary_factor: no even part of a head" + expected_got("at most 1", written));
  }
  if (!(config.rope_theta > 1)) root.fail("rope_theta out of range (expected above 1)");
}

// Which layers have a window, where the family says it layer by layer: every second one from the first on
// where the file does not.
void read_layer_windows(const JsonView& root, ModelConfig& config) {
  const auto layers = static_cast<size_t>(config.num_layers);
  config.windowed.resize(layers);
  for (size_t layer = 0; layer < layers; ++layer) config.windowed[layer] = layer % 2 == 0 ? 1 : 0;
  if (root.has_value("layer_types")) {
    const JsonView types = root.at("layer_types").as_array();
    if (types.size() != layers) {
      types.fail("wrong length" + expected_got(std::to_string(layers) + ", one a layer", types.size()));
    }
    for (size_t layer = 0; layer < layers; ++layer) {
      const std::string type = types.at(layer).as_string();
      if (type != "sliding_attention" && type != "full_attention")
        types.at(layer).fail_expected("sliding_attention or full_attention");
      config.windowed[layer] = type == "sliding_attention" ? 1 : 0;
    }
  }
  if (std::find(config.windowed.begin(), config.windowed.end(), 1) == config.windowed.end()) return;
  if (root.value().contains("sliding_window")) {
    config.sliding_window = root.at("sliding_window").as_int(1, kMaxPositions);
  } else {
    config.sliding_window = 128;
  }
}

void read_attention(const JsonView& root, ModelConfig& config) {
  config.num_heads = root.at("num_attention_heads").as_int(1, kMaxHeads);
  const JsonView kv_heads = root.at("num_key_value_heads");
  config.num_kv_heads = kv_heads.is_null() ? config.num_heads : kv_heads.as_int(1, config.num_heads);
  if (config.num_heads % config.num_kv_heads != 0) {
    kv_heads.fail_expected("a divisor of num_attention_heads " + std::to_string(config.num_heads));
  }
  if (root.has_value("head_dim")) {
    config.head_dim = root.at("head_dim").as_int(1, kMaxHeadDim);
  } else if (family_row(config.family).head_dim > 0 && !root.value().contains("head_dim")) {
    config.head_dim = family_row(config.family).head_dim;
  } else if (config.hidden_size % config.num_heads != 0) {
    root.at("num_attention_heads")
        .fail_expected("a divisor of hidden_size " + std::to_string(config.hidden_size));
  } else {
    config.head_dim = config.hidden_size / config.num_heads;
  }
  if (config.head_dim % 2 != 0 || config.head_dim > kMaxHeadDim) {
    root.at(root.has_value("head_dim") ? "head_dim" : "num_attention_heads")
        .fail("head size cannot be rotated" +
              expected_got("even, at most " + std::to_string(kMaxHeadDim), config.head_dim));
  }

  const FamilyRow& row = family_row(config.family);
  config.qk_norm = row.qk_norm;
  if (row.clips_qkv && root.has_value("clip_qkv")) {
    config.clip_qkv = static_cast<float>(root.at("clip_qkv").as_number());
    if (!(config.clip_qkv > 0)) root.at("clip_qkv").fail_expected("a number above 0");
  }
  if (row.qk_norm_key != nullptr && !root.bool_or(row.qk_norm_key, false)) config.qk_norm = QkNorm::kNone;
  config.qkv_bias = row.bias_key != nullptr && root.bool_or(row.bias_key, row.bias);
  if (row.bias_key == nullptr && root.bool_or("attention_bias", false)) {
    root.at("attention_bias").fail("attention biases not supported (expected false)");
  }
  config.o_bias = row.o_bias && config.qkv_bias;
  config.sinks = row.sinks;
  if (row.layer_windows) return read_layer_windows(root, config);
  if (row.sliding_window) {
    config.sliding_window = root.int_or("sliding_window", 0, 1, kMaxPositions);
    return;
  }
  const char* refused = "sliding windows not supported in this family (expected ";
  if (root.bool_or("use_sliding_window", false))
    root.at("use_sliding_window").fail(refused + std::string("false)"));
  if (!root.has_value("layer_types")) return;
  const JsonView types = root.at("layer_types").as_array();
  for (size_t i = 0; i < types.size(); ++i) {
    if (types.at(i).as_string() != "full_attention")
      types.at(i).fail(refused + std::string("full_attention)"));
  }
}

// A config may hold the count under two names, and again in a text_config: loaders read one or the other.
void check_holders(const JsonView& root, int64_t experts, const std::string& read_from) {
  const auto check = [&](const JsonView& part) {
    for (const char* key : {"num_experts", "num_local_experts", "n_routed_experts"}) {
      if (part.has_value(key) && part.at(key).as_int(1, kMaxExperts) != experts)
        part.at(key).fail_expected("the same as " + read_from);
    }
  };
  check(root);
  if (root.has_value("text_config") && root.at("text_config").is_object()) check(root.at("text_config"));
}

void read_sigmoid_router(const JsonView& root, ModelConfig& config) {
  config.router_score = RouterScore::kSigmoid;
  config.router_scale = static_cast<float>(root.number_or("routed_scaling_factor", 1));
  if (!(config.router_scale > 0)) root.at("routed_scaling_factor").fail_expected("a number above 0");
  config.router_groups = root.int_or("n_group", 1, 1, config.num_experts);
  if (config.num_experts % config.router_groups != 0) {
    root.at("n_group").fail_expected("a divisor of the number of experts " +
                                     std::to_string(config.num_experts));
  }
  config.router_top_groups =
      root.int_or("topk_group", 1, 1, std::min<int64_t>(config.router_groups, kMaxTopK));
  if (config.num_experts / config.router_groups * config.router_top_groups < config.top_k) {
    root.at("num_experts_per_tok").fail("more than the chosen groups have (n_group, topk_group)");
  }
}

void read_gpt_oss_experts(const JsonView& root, ModelConfig& config) {
  config.expert_bias = true;
  config.router_bias = true;
  config.expert_limit = static_cast<float>(root.number_or("swiglu_limit", 7));
  config.expert_alpha = static_cast<float>(root.number_or("swiglu_alpha", 1.702));
  if (!(config.expert_limit > 0)) root.at("swiglu_limit").fail_expected("a number above 0");
  if (!(config.expert_alpha > 0)) root.at("swiglu_alpha").fail_expected("a number above 0");
  if (root.has_value("experts_per_token") && root.at("experts_per_token").as_int(1, kMaxTopK) != config.top_k)
    root.at("experts_per_token").fail_expected("the same as num_experts_per_tok");
  if (config.mxfp4 &&
      (config.hidden_size % kMxfp4Block != 0 || config.expert_intermediate_size % kMxfp4Block != 0)) {
    root.at("quantization_config")
        .fail(fmt::format("blocks of {} numbers do not divide a row (hidden_size {}, intermediate_size {})",
                          kMxfp4Block, config.hidden_size, config.expert_intermediate_size));
  }
}

// Counts by layer as RCO and EvoESAP write them; layers without experts have any number.
void read_layer_counts(const JsonView& root, ModelConfig& config) {
  std::vector<int64_t> counts;
  for (const char* key : {"per_layer_num_experts", "num_experts_per_layer"}) {
    if (!root.has_value(key)) continue;
    const JsonView list = root.at(key).as_array();
    if (list.size() != static_cast<size_t>(config.num_layers)) {
      list.fail("wrong length" +
                expected_got(std::to_string(config.num_layers) + ", one a layer", list.size()));
    }
    std::vector<int64_t> own;
    for (size_t layer = 0; layer < list.size(); ++layer) {
      own.push_back(list.at(layer).as_int(config.sparse[layer] != 0 ? config.top_k : 0, kMaxExperts));
    }
    if (!counts.empty() && own != counts) list.fail("differs from per_layer_num_experts");
    counts = std::move(own);
  }
  if (counts.empty()) return;
  int64_t most = 0, least = kMaxExperts;
  for (size_t layer = 0; layer < counts.size(); ++layer) {
    if (config.sparse[layer] == 0) continue;
    most = std::max(most, counts[layer]);
    least = std::min(least, counts[layer]);
  }
  config.num_experts = most;
  if (least < most) config.experts_per_layer = std::move(counts);
}

void read_experts(const JsonView& root, ModelConfig& config) {
  const FamilyRow& row = family_row(config.family);
  std::string_view key = row.experts_key;
  for (const char* other : {"num_experts", "num_local_experts", "n_routed_experts"}) {
    if (!root.has_value(key) && root.has_value(other)) key = other;
  }
  const JsonView experts = root.at(root.has_value(key) ? key : row.experts_key);
  config.num_experts = experts.as_int(1, kMaxExperts);
  check_holders(root, config.num_experts, experts.path());
  config.top_k = root.at("num_experts_per_tok").as_int(1, std::min<int64_t>(config.num_experts, kMaxTopK));
  config.norm_topk_prob = row.renormalises || root.bool_or("norm_topk_prob", row.norm_topk_prob);
  config.expert_intermediate_size = root.at(row.expert_width_key).as_int(1, kMaxWidth);
  if (row.shared_width_key != nullptr) {
    config.shared_intermediate_size = root.at(row.shared_width_key).as_int(1, kMaxWidth);
  }
  if (row.shared_count_key != nullptr) {
    config.shared_gated = false;
    config.shared_intermediate_size =
        root.int_or(row.shared_count_key, 1, 0, kMaxExperts) * config.expert_intermediate_size;
  }
  if (row.score == RouterScore::kSigmoid) read_sigmoid_router(root, config);
  if (row.gpt_oss_experts) read_gpt_oss_experts(root, config);
  if (!row.dense_layers) {
    config.sparse.assign(static_cast<size_t>(config.num_layers), 1);
    if (!row.first_dense) return read_layer_counts(root, config);
    const int64_t dense = root.int_or("first_k_dense_replace", 1, 0, config.num_layers - 1);
    std::fill_n(config.sparse.begin(), dense, uint8_t{0});
    if (dense > 0) config.dense_intermediate_size = root.at("intermediate_size").as_int(1, kMaxWidth);
    return read_layer_counts(root, config);
  }
  const int64_t step = root.int_or("decoder_sparse_step", 1, 1, INT64_MAX);
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    config.sparse.push_back((layer + 1) % step == 0 ? 1 : 0);
  }
  if (root.has_value("mlp_only_layers")) {
    const JsonView dense = root.at("mlp_only_layers").as_array();
    for (size_t i = 0; i < dense.size(); ++i) {
      config.sparse[static_cast<size_t>(dense.at(i).as_int(0, config.num_layers - 1))] = 0;
    }
  }
  if (config.sparse_layers() == 0) root.fail("no layer has experts (decoder_sparse_step, mlp_only_layers)");
  if (config.sparse_layers() < config.num_layers) {
    config.dense_intermediate_size = root.at("intermediate_size").as_int(1, kMaxWidth);
  }
  read_layer_counts(root, config);
}

// One id or a list; null and -1: none.
std::vector<int32_t> read_token_ids(const JsonView& root, const char* key, int64_t vocab_size) {
  std::vector<int32_t> ids;
  if (!root.has_value(key)) return ids;
  const JsonView value = root.at(key);
  const size_t count = value.is_array() ? value.size() : 1;
  for (size_t i = 0; i < count; ++i) {
    const int64_t id = (value.is_array() ? value.at(i) : value).as_int(-1, vocab_size - 1);
    if (id >= 0) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

void read_special_tokens(const JsonView& root, ModelConfig& config) {
  const int64_t unsaid = family_row(config.family).unsaid_eos;
  const bool beyond = unsaid >= config.vocab_size && root.has_value("eos_token_id") &&
                      root.at("eos_token_id").value() == unsaid;
  if (root.has_value("eos_token_id") && !beyond) {
    config.eos_token_ids = read_token_ids(root, "eos_token_id", config.vocab_size);
  }
  const std::vector<int32_t> bos = read_token_ids(root, "bos_token_id", config.vocab_size);
  if (!bos.empty()) config.bos_token_id = bos.front();
}

}  // namespace

ModelConfig parse_config(const JsonDocument& document) {
  const JsonView root = document.root().as_object();
  ModelConfig config;
  config.family = read_family(root);
  read_quantisation(root, config);
  const std::string activation = root.string_or("hidden_act", "silu");
  if (activation != "silu" && activation != "swish") {
    root.at("hidden_act").fail("activation not supported" + expected_got("silu", printable(activation)));
  }
  config.vocab_size = root.at("vocab_size").as_int(1, kMaxVocabulary);
  config.hidden_size = root.at("hidden_size").as_int(1, kMaxWidth);
  config.num_layers = root.at("num_hidden_layers").as_int(1, kMaxLayers);
  config.max_positions = root.at("max_position_embeddings").as_int(1, kMaxPositions);
  config.tie_word_embeddings = root.bool_or("tie_word_embeddings", false);
  config.dtype = read_dtype(root);

  const double eps = root.number_or("rms_norm_eps", family_row(config.family).rms_norm_eps);
  config.rms_norm_eps = static_cast<float>(eps);
  if (!(config.rms_norm_eps > 0) || !std::isfinite(config.rms_norm_eps)) {
    root.at("rms_norm_eps").fail_expected("a number above 0");
  }
  read_attention(root, config);
  read_rope(root, config);
  read_experts(root, config);
  read_special_tokens(root, config);
  return config;
}

namespace {

JsonDocument config_of(const std::string& directory) {
  require_model_directory(directory);
  const std::string native = join_path(directory, kNativeConfig);
  return JsonDocument::read(is_there(native) ? native : join_path(directory, "config.json"));
}

}  // namespace

int64_t read_mtp_layers(const std::string& directory) {
  const JsonDocument document = config_of(directory);
  int64_t layers = 0;
  for (const char* key : {"num_nextn_predict_layers", "num_mtp_layers"})
    layers = std::max(layers, document.root().as_object().int_or(key, 0, 0, kMaxLayers));
  return layers;
}

ModelConfig read_config(const std::string& directory) {
  ModelConfig config = parse_config(config_of(directory));
  const std::string generation = join_path(directory, "generation_config.json");
  if (is_there(generation)) {
    const JsonDocument document = JsonDocument::read(generation);
    read_special_tokens(document.root().as_object(), config);
  }
  return config;
}

}  // namespace eep
