// What models of other families lack, by name.
#include <doctest/doctest.h>

#include "loaders/models/config_json.h"
#include "loaders/models/support.h"
#include "tests/loaders/tiny_checkpoint.h"

namespace eep {
namespace {

using Parts = std::vector<std::string>;

TEST_CASE("support: what a family asks for is named, from the config and from what it does not say") {
  const auto missing = [](const Json& config) { return model_support(config).missing; };
  CHECK(missing({{"model_type", "glm4_moe_lite"},
                 {"n_routed_experts", 128},
                 {"n_shared_experts", 1},
                 {"n_group", 1},
                 {"num_experts_per_tok", 8},
                 {"first_k_dense_replace", 1},
                 {"routed_scaling_factor", 2.5},
                 {"partial_rotary_factor", 0.5},
                 {"attention_bias", true},
                 {"hidden_act", "silu"}}) ==
        Parts{"router: sigmoid scores with a selection bias", "attention: biases", "router: scaled weights",
              "experts: shared ones without a gate", "experts: dense first layers",
              "rotary: a part of each head"});
  CHECK(missing({{"model_type", "deepseek_v2"},
                 {"kv_lora_rank", 512},
                 {"n_routed_experts", 64},
                 {"n_group", 8},
                 {"num_experts_per_tok", 6},
                 {"rope_scaling", {{"type", "yarn"}}}}) ==
        Parts{"attention: latent keys and values (MLA)", "router: groups of experts"});
  CHECK(missing({{"model_type", "gpt_oss"},
                 {"num_local_experts", 32},
                 {"num_experts_per_tok", 4},
                 {"layer_types", {"sliding_attention", "full_attention"}},
                 {"attention_bias", true},
                 {"quantization_config", {{"quant_method", "mxfp4"}}}}) ==
        Parts{"attention: sinks", "router: biases, softmax after the choice",
              "experts: clamped SwiGLU with biases", "attention: sliding windows in some layers",
              "attention: biases", "weights: quantised by mxfp4"});
  CHECK(missing({{"model_type", "qwen3_vl_moe"},
                 {"vision_config", Json::object()},
                 {"text_config",
                  {{"model_type", "qwen3_vl_moe_text"},
                   {"hidden_size", 8},
                   {"num_experts", 8},
                   {"rope_scaling", {{"mrope_section", {1, 1, 2}}, {"rope_type", "default"}}}}}}) ==
        Parts{"wrapper: the text model lies in text_config (model_type qwen3_vl_moe_text)",
              "wrapper: a vision or audio tower", "rotary: scaling mrope"});
  CHECK(missing({{"model_type", "llama"}, {"hidden_act", "gelu"}}) ==
        Parts{"experts: none, the model is dense", "experts: activation gelu"});
  CHECK(missing({{"model_type", "other"}, {"num_experts", 4}}) ==
        Parts{"the layers of other, whose config names nothing unusual"});
  CHECK(missing({{"model_type", "x"}, {"num_experts", 100000}, {"num_experts_per_tok", 99}})[1].find(
            "active") != std::string::npos);
  for (const Json& odd :
       {Json(), Json(3), Json::array({1}), Json{{"model_type", 5}, {"layer_types", "x"}},
        Json{{"text_config", 7}, {"quantization_config", {1, 2}}, {"rope_scaling", false}}}) {
    CHECK(model_support(odd).model_type == "?");
  }
}

TEST_CASE("support: a family that is known lacks nothing, and inspect's refusal says what another lacks") {
  for (const char* family : {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe"}) {
    const Scratch scratch;
    TinyCheckpoint(family).write(scratch);
    const ModelSupport support = model_support(scratch.path());
    CHECK(support.known);
    CHECK(support.model_type == family);
    CHECK(support.missing.empty());
  }
  const Scratch scratch;
  TinyCheckpoint tiny("mixtral");
  tiny.config["model_type"] = "deepseek_v3";
  tiny.config["kv_lora_rank"] = 512;
  tiny.write(scratch);
  check_error(
      ExitCode::kData,
      "missing: router: sigmoid scores with a selection bias; attention: latent keys and values (MLA)",
      [&] { read_config(scratch.path()); });
}

}  // namespace
}  // namespace eep
