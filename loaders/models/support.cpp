// Keys of config.json, each with what it means; what a family has without saying so is a row by model_type.
#include "loaders/models/support.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "engine/config.h"
#include "kernels/router.h"
#include "loaders/formats/file.h"
#include "loaders/models/families.h"
#include "loaders/models/model_directory.h"

namespace eep {

namespace {

struct Unsaid {
  std::string_view type;  // begins the model_type
  const char* part;
};

// What the config of a family does not say.
constexpr std::array kUnsaid{
    Unsaid{"phimoe", "router: sparsemixer"},
    Unsaid{"phimoe", "norms: LayerNorm with biases"},
    Unsaid{"glm4_moe_lite", "router: sigmoid scores with a selection bias"},
    Unsaid{"minimax_m2", "router: sigmoid scores with a selection bias"},
    Unsaid{"deepseek_v3", "router: sigmoid scores with a selection bias"},
    Unsaid{"kimi_k2", "router: sigmoid scores with a selection bias"},
    Unsaid{"dots1", "router: sigmoid scores with a selection bias"},
    Unsaid{"ernie4_5_moe", "router: a selection bias"},
    Unsaid{"llama4", "router: sigmoid of the chosen, applied to the input"},
    Unsaid{"qwen3_next", "attention: gated delta net (linear attention)"},
    Unsaid{"qwen3_next", "attention: output gate"},
    Unsaid{"qwen3_5", "attention: gated delta net (linear attention)"},
    Unsaid{"qwen3_5", "attention: output gate"},
    Unsaid{"nemotron_h", "attention: Mamba layers"},
    Unsaid{"nemotron_h", "experts: squared ReLU without a gate"},
    Unsaid{"jamba", "attention: Mamba layers"},
    Unsaid{"granitemoe", "scaling: multipliers of embedding, residual and logits"},
    Unsaid{"gemma", "norms: further ones around attention and experts"},
};

const Json* find(const Json& object, std::string_view key) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string text_of(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : "";
}

double number_of(const Json& object, std::string_view key, double fallback) {
  const Json* value = find(object, key);
  return value != nullptr && value->is_number() ? value->get<double>() : fallback;
}

bool is_true(const Json& object, std::string_view key) {
  const Json* value = find(object, key);
  return value != nullptr && value->is_boolean() && value->get<bool>();
}

class Survey {
 public:
  explicit Survey(const Json& config) : whole_(config) {
    const Json* text = find(config, "text_config");
    text_ = text != nullptr && find(config, "hidden_size") == nullptr ? text : &config;
    support_.model_type = text_of(config, "model_type").empty() ? "?" : text_of(config, "model_type");
    for (const FamilyRow& row : families()) {
      if (support_.model_type == family_name(row.family)) row_ = &row;
    }
    support_.known = row_ != nullptr;
  }

  ModelSupport take() {
    if (text_ != &whole_)
      add("wrapper: the text model lies in text_config (model_type " + inner_type() + ")");
    if (find(whole_, "vision_config") != nullptr || find(whole_, "audio_config") != nullptr)
      add("wrapper: a vision or audio tower");
    if (!support_.known) {
      for (const Unsaid& row : kUnsaid) {
        if (support_.model_type.starts_with(row.type) || inner_type().starts_with(row.type)) add(row.part);
      }
    }
    attention();
    router();
    experts();
    rotary();
    quantisation();
    if (!support_.known && support_.missing.empty())
      add("the layers of " + printable(support_.model_type) + ", whose config names nothing unusual");
    return std::move(support_);
  }

 private:
  void add(std::string part) {
    auto& all = support_.missing;
    if (std::find(all.begin(), all.end(), part) == all.end()) all.push_back(std::move(part));
  }

  std::string inner_type() const { return text_of(*text_, "model_type"); }
  bool has(std::string_view key) const { return find(*text_, key) != nullptr; }

  bool layers_have(std::string_view kind) const {
    const Json* types = find(*text_, "layer_types");
    return types != nullptr && types->is_array() &&
           std::any_of(types->begin(), types->end(), [&](const Json& type) { return type == kind; });
  }

  void attention() {
    if (has("kv_lora_rank")) add("attention: latent keys and values (MLA)");
    if (has("index_topk") || has("index_n_heads")) add("attention: sparse, with an indexer");
    if (has("linear_num_key_heads") || layers_have("linear_attention"))
      add("attention: gated delta net (linear attention)");
    if (has("mamba_d_state") || has("ssm_state_size") || has("hybrid_override_pattern"))
      add("attention: Mamba layers");
    if (has("attention_chunk_size")) add("attention: chunks");
    if (is_true(*text_, "attn_output_gate")) add("attention: output gate");
    const bool window = number_of(*text_, "sliding_window", 0) > 0 && is_true(*text_, "use_sliding_window");
    const bool by_layer = layers_have("sliding_attention") && (row_ == nullptr || !row_->layer_windows);
    if (by_layer || window) add("attention: sliding windows in some layers");
    if (!support_.known && is_true(*text_, "attention_bias")) add("attention: biases");
  }

  void router() {
    if (support_.known) return;
    if (text_of(*text_, "scoring_func") == "sigmoid") add("router: sigmoid scores with a selection bias");
    if (is_true(*text_, "use_routing_bias") || has("moe_use_aux_free")) add("router: a selection bias");
    if (number_of(*text_, "n_group", 1) > 1) add("router: groups of experts");
    if (number_of(*text_, "routed_scaling_factor", 1) != 1) add("router: scaled weights");
  }

  void experts() {
    double count = 0;
    for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"})
      count = std::max(count, number_of(*text_, key, 0));
    if (count == 0) add("experts: none, the model is dense");
    if (count > kMaxExperts) add(fmt::format("experts: {} (at most {})", count, kMaxExperts));
    double active = 0;
    for (const char* key : {"num_experts_per_tok", "moe_k", "experts_per_token", "num_experts_per_token"})
      active = std::max(active, number_of(*text_, key, 0));
    if (active > kMaxTopK) add(fmt::format("experts: {} active (at most {})", active, kMaxTopK));
    if (!support_.known && number_of(*text_, "n_shared_experts", 0) > 0)
      add("experts: shared ones without a gate");
    if (!support_.known && number_of(*text_, "moe_num_shared_experts", 0) > 0)
      add("experts: shared ones without a gate");
    if (!support_.known && number_of(*text_, "first_k_dense_replace", 0) > 0)
      add("experts: dense first layers");
    std::string activation = text_of(*text_, "hidden_act");
    if (activation.empty()) activation = text_of(*text_, "hidden_activation");
    if (!activation.empty() && activation != "silu" && activation != "swish")
      add("experts: activation " + printable(activation));
  }

  void rotary() {
    const Json* rope = find(*text_, "rope_parameters");
    if (rope == nullptr) rope = find(*text_, "rope_scaling");
    static const Json kNone = Json::object();
    const Json& scaling = rope != nullptr ? *rope : kNone;
    if (!support_.known &&
        number_of(*text_, "partial_rotary_factor", number_of(scaling, "partial_rotary_factor", 1)) != 1)
      add("rotary: a part of each head");
    std::string type = text_of(scaling, "rope_type");
    if (type.empty()) type = text_of(scaling, "type");
    if (find(scaling, "mrope_section") != nullptr) type = "mrope";
    if (!type.empty() && type != "default" && type != "yarn") add("rotary: scaling " + printable(type));
  }

  void quantisation() {
    const Json* quantised = find(whole_, "quantization_config");
    if (quantised == nullptr) quantised = find(*text_, "quantization_config");
    if (quantised == nullptr) return;
    const std::string method = text_of(*quantised, "quant_method");
    const char* known = row_ != nullptr && row_->gpt_oss_experts ? "mxfp4" : "fp8";
    if (method != known) add("weights: quantised by " + (method.empty() ? "?" : printable(method)));
  }

  const Json& whole_;
  const Json* text_;                // the text model's part
  const FamilyRow* row_ = nullptr;  // of a known family
  ModelSupport support_;
};

}  // namespace

ModelSupport model_support(const Json& config) { return Survey(config).take(); }

ModelSupport model_support(const std::string& directory) {
  require_model_directory(directory);
  const std::string path = join_path(directory, "config.json");
  return model_support(parse_json(read_file(path), path));
}

}  // namespace eep
