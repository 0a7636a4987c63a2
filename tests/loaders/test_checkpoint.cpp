// Checkpoints: layouts, shards, dtypes and spellings that must load to the same model, and everything that
// must not load.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <optional>
#include <random>

#include "loaders/models/checkpoint.h"
#include "loaders/models/config_json.h"
#include "loaders/models/families.h"
#include "loaders/models/model_hash.h"
#include "loaders/models/verify.h"
#include "tests/loaders/tiny_checkpoint.h"

namespace eep {
namespace {

std::string hash_of(const TinyCheckpoint& checkpoint) {
  const Scratch scratch;
  return model_hash(load_checkpoint(checkpoint.write(scratch)));
}

float value_at(const RawMatrix& matrix, int64_t i, int64_t j) {
  float value;
  const auto* data = static_cast<const uint8_t*>(matrix.data);
  std::memcpy(&value, data + 4 * (i * matrix.row_stride + j * matrix.column_stride), 4);
  return value;
}

// The change must be refused with this text.
void refuse(const std::string& family, const std::string& part,
            const std::function<void(TinyCheckpoint&)>& change, TinyLayout layout = TinyLayout::kPerExpert) {
  INFO(part);
  TinyCheckpoint checkpoint(family, layout);
  change(checkpoint);
  const Scratch scratch;
  const std::string directory = checkpoint.write(scratch);
  check_error(ExitCode::kData, part, [&] { load_checkpoint(directory); });
}

void refuse_config(const std::string& family, const std::string& key, const Json& value,
                   const std::string& part) {
  INFO(family << " " << key << " " << value.dump());
  TinyCheckpoint checkpoint(family);
  checkpoint.config[key] = value;
  check_error(ExitCode::kData, part,
              [&] { parse_config(JsonDocument(checkpoint.config.dump(), "config.json")); });
}

ModelConfig config_with(const std::string& family, const std::function<void(Json&)>& change) {
  TinyCheckpoint checkpoint(family);
  change(checkpoint.config);
  return parse_config(JsonDocument(checkpoint.config.dump(), "config.json"));
}

}  // namespace

TEST_CASE("checkpoint: a file name is not cut at a NUL") {
  const Scratch scratch;
  scratch.write("there", "text");
  const std::string longer = scratch.path("there") + std::string("\0x", 2);
  check_error(ExitCode::kNoInput, "there: followed by a NUL character", [&] { read_file(longer); });
  check_error(ExitCode::kNoInput, "there: followed by a NUL character",
              [&] { const MappedFile file(longer); });
}

TEST_CASE("checkpoint: every tensor in its place") {
  const Scratch scratch;
  TinyCheckpoint tiny("qwen2_moe");
  tiny.config["mlp_only_layers"] = {1};
  for (auto it = tiny.tensors.begin(); it != tiny.tensors.end();) {
    it = it->first.rfind("model.layers.1.mlp.", 0) == 0 ? tiny.tensors.erase(it) : std::next(it);
  }
  tiny.add("model.layers.1.mlp.gate_proj.weight", {8, 6});
  tiny.add("model.layers.1.mlp.up_proj.weight", {8, 6});
  tiny.add("model.layers.1.mlp.down_proj.weight", {6, 8});
  const RawModel model = load_checkpoint(tiny.write(scratch));
  CHECK(model.config.sparse == std::vector<uint8_t>{1, 0});
  REQUIRE(model.layers.size() == 2);
  const RawLayer& sparse = model.layers[0];
  REQUIRE(sparse.experts.size() == 3);
  CHECK(sparse.experts[1].down.n == 6);
  CHECK(sparse.experts[1].down.k == 5);
  CHECK(sparse.shared.gate.n == 4);
  CHECK(sparse.shared_gate.n == 1);
  CHECK(sparse.q_bias.elements() == 8);
  CHECK_FALSE(static_cast<bool>(sparse.dense.gate));
  CHECK_FALSE(static_cast<bool>(sparse.q_norm));
  const RawLayer& dense = model.layers[1];
  CHECK(dense.experts.empty());
  CHECK(dense.dense.down.k == 8);
  CHECK_FALSE(static_cast<bool>(dense.router));
  size_t bytes = 0;
  for (const auto& [name, tensor] : tiny.tensors) bytes += tensor.bytes.size();
  CHECK(model.bytes == bytes);
  CHECK(static_cast<int64_t>(model.bytes) == 4 * count_parameters(model.config).total);
  CHECK(std::memcmp(model.layers[0].q.data,
                    tiny.tensors["model.layers.0.self_attn.q_proj.weight"].bytes.data(), 192) == 0);
}

TEST_CASE("checkpoint: layouts, prefixes and shards give the same model and hash") {
  for (const FamilyRow& row : families()) {
    const std::string family = family_name(row.family);
    CAPTURE(family);
    const std::string hash = hash_of(TinyCheckpoint(family));
    CHECK(hash.size() == 37);
    CHECK(hash_of(TinyCheckpoint(family, TinyLayout::kFused)) == hash);
    CHECK(hash_of(TinyCheckpoint(family, TinyLayout::kTransposed)) == hash);
    TinyCheckpoint sharded(family);
    int next = 0;
    for (const auto& [name, tensor] : sharded.tensors) sharded.shard_of[name] = next++ % 3;
    CHECK(hash_of(sharded) == hash);

    TinyCheckpoint other(family);
    other.tensors["model.norm.weight"].bytes[0] ^= 1;
    CHECK(hash_of(other) != hash);
    TinyCheckpoint theta(family);
    theta.config["rope_theta"] = 20000.0;
    CHECK(hash_of(theta) != hash);
    CHECK(hash_of(TinyCheckpoint(family, TinyLayout::kPerExpert, DType::kF16)) != hash);
  }
  const Scratch plain, transposed;
  const RawModel a = load_checkpoint(TinyCheckpoint("mixtral").write(plain));
  const RawModel b = load_checkpoint(TinyCheckpoint("mixtral", TinyLayout::kTransposed).write(transposed));
  for (int64_t i = 0; i < 5; ++i) {
    for (int64_t j = 0; j < 6; ++j) {
      CHECK(value_at(a.layers[1].experts[2].up, i, j) == value_at(b.layers[1].experts[2].up, i, j));
      CHECK(value_at(a.layers[1].experts[2].down, j, i) == value_at(b.layers[1].experts[2].down, j, i));
    }
  }
}

TEST_CASE("checkpoint: the other matrix tells the layout where one of the fused ones is square") {
  for (const int inner : {3, 6}) {
    CAPTURE(inner);
    const Scratch one, two, three;
    const RawModel a =
        load_checkpoint(TinyCheckpoint("qwen3_moe", TinyLayout::kPerExpert, DType::kF32, inner).write(one));
    const RawModel b =
        load_checkpoint(TinyCheckpoint("qwen3_moe", TinyLayout::kFused, DType::kF32, inner).write(two));
    const RawModel c = load_checkpoint(
        TinyCheckpoint("qwen3_moe", TinyLayout::kTransposed, DType::kF32, inner).write(three));
    for (int64_t i = 0; i < inner; ++i) {
      for (int64_t j = 0; j < 6; ++j) {
        const RawFfn &plain = a.layers[1].experts[2], &fused = b.layers[1].experts[2],
                     &transposed = c.layers[1].experts[2];
        CHECK(value_at(plain.up, i, j) == value_at(fused.up, i, j));
        CHECK(value_at(plain.down, j, i) == value_at(fused.down, j, i));
        CHECK(value_at(plain.up, i, j) == value_at(transposed.up, i, j));
        CHECK(value_at(plain.down, j, i) == value_at(transposed.down, j, i));
      }
    }
  }
}

TEST_CASE("checkpoint: dtypes, tied embeddings, harmless extras") {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Scratch scratch;
    TinyCheckpoint tiny("mixtral", TinyLayout::kPerExpert, dtype);
    tiny.config["torch_dtype"] = "float32";  // what the tensors have counts
    TinyTensor& norm = tiny.tensors["model.norm.weight"];
    norm = {DType::kF32, {6}, std::string(24, '\0')};
    const RawModel model = load_checkpoint(tiny.write(scratch));
    CHECK(model.config.dtype == dtype);
    CHECK(model.final_norm.dtype == DType::kF32);
  }
  const Scratch absent, present;
  TinyCheckpoint tied("mixtral");
  tied.config["tie_word_embeddings"] = true;
  tied.tensors["lm_head.weight"] = tied.tensors["model.embed_tokens.weight"];
  const RawModel both = load_checkpoint(tied.write(present));
  CHECK(both.lm_head.data == both.embedding.data);
  tied.tensors.erase("lm_head.weight");
  tied.add("model.layers.0.self_attn.rotary_emb.inv_freq", {2});
  const RawModel one = load_checkpoint(tied.write(absent));
  CHECK(one.lm_head.data == one.embedding.data);
  CHECK(model_hash(one) == model_hash(both));
}

TEST_CASE("checkpoint: tensors that are wrong are named") {
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  refuse("mixtral", q + ": missing tensor", [&](auto& c) { c.tensors.erase(q); });
  // By the names of the file, with what lies in the place.
  const std::string w1 = "model.layers.0.block_sparse_moe.experts.2.w1.weight";
  refuse("mixtral",
         w1 + ": missing tensor (beside it lies model.layers.0.block_sparse_moe.experts.2.w9.weight)",
         [&](auto& c) {
           c.tensors["model.layers.0.block_sparse_moe.experts.2.w9.weight"] = c.tensors[w1];
           c.tensors.erase(w1);
         });
  refuse("mixtral", w1 + ": missing tensor", [&](auto& c) {
    for (const char* part : {"w1", "w2", "w3"})
      c.tensors.erase(std::string("model.layers.0.block_sparse_moe.experts.2.") + part + ".weight");
  });
  const std::string gate = "model.layers.1.block_sparse_moe.gate.weight";
  refuse("mixtral", gate + ": missing tensor", [&](auto& c) {
    c.tensors["model.layers.1.mlp.gate.weight"] = c.tensors[gate];
    c.tensors.erase(gate);
  });
  refuse("mixtral", q + ": wrong shape (expected [8, 6], got [6, 8])", [&](auto& c) {
    c.tensors[q].shape = {6, 8};
  });
  refuse("mixtral", q + ": wrong shape (expected [8, 6], got [48])",
         [&](auto& c) { c.tensors[q].shape = {48}; });
  refuse("mixtral", q + ": matrices of several dtypes (expected F32 as the embedding, got F16)",
         [&](auto& c) {
           c.tensors[q] = {DType::kF16, {8, 6}, std::string(96, '\0')};
         });
  refuse("mixtral", q + ": dtype not supported (expected F32, F16, BF16 or F8_E4M3, got I32)",
         [&](auto& c) { c.tensors[q].dtype = DType::kI32; });
  refuse("mixtral", "model.layers.0.block_sparse_moe.experts.3.w1.weight: tensor that the architecture",
         [&](auto& c) {
           c.add("model.layers.0.block_sparse_moe.experts.3.w1.weight", {5, 6});
         });
  refuse("mixtral", "model.layers.0.block_sparse_moe.gate.weight: wrong shape (expected [4, 6], got [3, 6])",
         [&](auto& c) { c.config["num_local_experts"] = 4; });
  refuse("mixtral", "model.layers.2.input_layernorm.weight: missing tensor",
         [&](auto& c) { c.config["num_hidden_layers"] = 4000; });
  refuse("mixtral", "lm_head.weight: missing tensor", [&](auto& c) { c.tensors.erase("lm_head.weight"); });
  refuse("mixtral", "lm_head.weight: differs from the embedding though tie_word_embeddings",
         [&](auto& c) { c.config["tie_word_embeddings"] = true; });
  refuse("qwen2_moe", "model.layers.0.mlp.shared_expert_gate.weight: missing tensor",
         [&](auto& c) { c.tensors.erase("model.layers.0.mlp.shared_expert_gate.weight"); });
  refuse("qwen2_moe", "self_attn.k_proj.bias: tensor that the architecture",
         [&](auto& c) { c.config["qkv_bias"] = false; });
  refuse("qwen3_moe", "model.layers.0.self_attn.q_norm.weight: wrong shape (expected [4], got [2])",
         [&](auto& c) {
           c.tensors["model.layers.0.self_attn.q_norm.weight"] = {DType::kF32, {2}, std::string(8, '\0')};
         });
  const std::string fused = "model.layers.0.mlp.experts.down_proj";
  refuse(
      "qwen3_moe", fused + ": wrong shape (expected [3, 6, 5], got [3, 5, 6])",
      [&](auto& c) {
        c.tensors[fused].shape = {3, 5, 6};
      },
      TinyLayout::kFused);
}

TEST_CASE("checkpoint: shards and index must agree") {
  const auto broken = [](const std::string& part, ExitCode code,
                         const std::function<void(const Scratch&)>& change) {
    INFO(part);
    const Scratch scratch;
    TinyCheckpoint tiny("mixtral");
    for (const auto& [name, tensor] : tiny.tensors) tiny.shard_of[name] = name < "model.layers.1" ? 0 : 1;
    tiny.write(scratch);
    change(scratch);
    check_error(code, part, [&] { load_checkpoint(scratch.path()); });
  };
  const auto edit_index = [](const Scratch& scratch, const std::function<void(Json&)>& edit) {
    Json index = parse_json(read_file(scratch.path("model.safetensors.index.json")), "index");
    edit(index["weight_map"]);
    scratch.write("model.safetensors.index.json", index.dump(1));
  };
  broken("shard-1.safetensors: cannot open", ExitCode::kNoInput,
         [](const Scratch& scratch) { std::filesystem::remove(scratch.path("shard-1.safetensors")); });
  broken("shard-1.safetensors: truncated", ExitCode::kData,
         [](const Scratch& scratch) { scratch.write("shard-1.safetensors", "abc"); });
  broken("tensor is not in its shard (expected shard-1.safetensors, got ", ExitCode::kData,
         [&](const Scratch& scratch) {
           edit_index(scratch, [](Json& map) { map["lm_head.weight"] = "shard-1.safetensors"; });
         });
  broken("tensor is not in its shard shard-0.safetensors", ExitCode::kData, [&](const Scratch& scratch) {
    edit_index(scratch, [](Json& map) { map["model.ghost"] = "shard-0.safetensors"; });
  });
  broken("tensor lm_head.weight is not listed in the index", ExitCode::kData, [&](const Scratch& scratch) {
    edit_index(scratch, [](Json& map) { map.erase("lm_head.weight"); });
  });
  broken("not the name of a file in this directory", ExitCode::kData, [&](const Scratch& scratch) {
    edit_index(scratch, [](Json& map) { map["lm_head.weight"] = "../shard-0.safetensors"; });
  });
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"),
        std::string("\0shard-0.safetensors", 20), std::string("shard-0.safetensors\0", 20)}) {
    broken("not the name of a file in this directory", ExitCode::kData, [&](const Scratch& scratch) {
      edit_index(scratch, [&](Json& map) { map["lm_head.weight"] = name; });
    });
  }
  broken("wrong value (expected a file name, got 1)", ExitCode::kData,
         [&](const Scratch& scratch) { edit_index(scratch, [](Json& map) { map["lm_head.weight"] = 1; }); });
  broken("model.safetensors.index.json:1:1: top level: missing key \"weight_map\"", ExitCode::kData,
         [](const Scratch& scratch) { scratch.write("model.safetensors.index.json", "{}"); });
  broken("no such file, and no model.safetensors.index.json", ExitCode::kNoInput, [](const Scratch& scratch) {
    std::filesystem::remove(scratch.path("model.safetensors.index.json"));
  });
  broken("config.json: cannot open", ExitCode::kNoInput,
         [](const Scratch& scratch) { std::filesystem::remove(scratch.path("config.json")); });
  check_error(ExitCode::kNoInput, "no such model directory", [] { load_checkpoint("no/such/model"); });
  const auto hint = [](const std::string& path) -> std::string {
    try {
      load_checkpoint(path);
    } catch (const Error& error) {
      return error.hint();
    }
    return "";
  };
  CHECK(hint("some/model-8x7B").find("hf download some/model-8x7B") != std::string::npos);
  const Scratch bare;
  bare.write("a.gguf", "GGUF");
  CHECK(hint(bare.path("a.gguf")).find("eep convert " + bare.path("a.gguf")) != std::string::npos);
  bare.write("config.json", read_file(std::string(EEP_SOURCE_DIR) + "/tests/golden/mixtral_f32/config.json"));
  CHECK(hint(bare.path()).find("eep convert") != std::string::npos);
  bare.write("snapshots/0123/config.json", "{}");
  CHECK(hint(bare.path()).find("snapshots/0123") != std::string::npos);

  const Scratch scratch;
  TinyCheckpoint twice("mixtral");
  for (const auto& [name, tensor] : twice.tensors) twice.shard_of[name] = 0;
  twice.write(scratch);
  std::filesystem::copy(scratch.path("shard-0.safetensors"), scratch.path("shard-1.safetensors"));
  edit_index(scratch, [](Json& map) { map["lm_head.weight"] = "shard-1.safetensors"; });
  check_error(ExitCode::kData, "in two shards", [&] { load_checkpoint(scratch.path()); });
}

TEST_CASE("checkpoint: shards without an index are read by their names, all or none") {
  const Scratch scratch;
  TinyCheckpoint tiny("mixtral");
  const std::string hash = hash_of(tiny);
  int next = 0;
  for (const auto& [name, tensor] : tiny.tensors) tiny.shard_of[name] = next++ % 3;
  tiny.write(scratch);
  const auto shard = [&](int number, int of) {
    return scratch.path(fmt::format("model-{:05}-of-{:05}.safetensors", number, of));
  };
  for (int i = 0; i < 3; ++i)
    std::filesystem::rename(scratch.path(fmt::format("shard-{}.safetensors", i)), shard(i + 1, 3));
  std::filesystem::remove(scratch.path("model.safetensors.index.json"));
  const RawModel model = load_checkpoint(scratch.path());
  CHECK(model_hash(model) == hash);
  CHECK(model.note.starts_with("model.safetensors.index.json is missing: all 3 shards are read"));
  std::optional<RawModel> verified;
  const std::vector<Check> checks = verify_directory(scratch.path(), verified);
  CHECK(std::any_of(checks.begin(), checks.end(), [](const Check& check) {
    return !check.passed && check.detail.find("index.json: missing beside shards") != std::string::npos;
  }));
  std::filesystem::copy(shard(2, 3), shard(2, 4));
  check_error(ExitCode::kData, "belongs to another set of shards", [&] { load_checkpoint(scratch.path()); });
  std::filesystem::remove(shard(2, 4));
  for (const int missing : {1, 2, 3}) {
    std::filesystem::rename(shard(missing, 3), scratch.path("away"));
    check_error(ExitCode::kNoInput, fmt::format("shard {} of 3 of model.safetensors is missing", missing),
                [&] { load_checkpoint(scratch.path()); });
    std::filesystem::rename(scratch.path("away"), shard(missing, 3));
  }
}

TEST_CASE("config: spellings of transformers 4 and 5") {
  const ModelConfig plain = config_with("qwen3_moe", [](Json&) {});
  CHECK(plain.qk_norm == QkNorm::kHead);
  CHECK_FALSE(plain.qkv_bias);
  CHECK_FALSE(plain.norm_topk_prob);
  CHECK(plain.rope_theta == 10000.0);
  CHECK(plain.dtype == DType::kBF16);
  CHECK(plain.eos_token_ids == std::vector<int32_t>{2});
  CHECK(plain.bos_token_id == -1);
  CHECK(plain.sliding_window == 0);

  const ModelConfig v5 = config_with("qwen3_moe", [](Json& c) {
    c.erase("rope_theta");
    c.erase("num_experts");
    c["num_local_experts"] = 3;
    c["rope_parameters"] = {{"rope_theta", 5000.0}, {"rope_type", "default"}};
    c["dtype"] = "float16";
    c["eos_token_id"] = {3, 4};
    c["norm_topk_prob"] = true;
    c["decoder_sparse_step"] = 2;
  });
  CHECK(v5.num_experts == 3);
  CHECK(v5.rope_theta == 5000.0);
  CHECK(v5.dtype == DType::kF16);
  CHECK(v5.eos_token_ids == std::vector<int32_t>{3, 4});
  CHECK(v5.norm_topk_prob);
  CHECK(v5.sparse == std::vector<uint8_t>{0, 1});
  CHECK(v5.dense_intermediate_size == 8);

  const ModelConfig mixtral = config_with("mixtral", [](Json& c) {
    c.erase("head_dim");
    c.erase("rope_theta");
    c["hidden_size"] = 12;
    c["sliding_window"] = 8;
    c["num_key_value_heads"] = nullptr;
    c["torch_dtype"] = "torch.float32";
    c["rope_scaling"] = nullptr;
  });
  CHECK(mixtral.head_dim == 6);
  CHECK(mixtral.num_kv_heads == 2);
  CHECK(mixtral.sliding_window == 8);
  CHECK(mixtral.rope_theta == 1e6);
  CHECK(mixtral.norm_topk_prob);
  CHECK(mixtral.dtype == DType::kF32);

  const auto yarn = [](const char* key, const char* type) {
    return config_with("qwen2_moe", [&](Json& c) {
      c[key] = {{type, "yarn"},
                {"factor", 4.0},
                {"original_max_position_embeddings", 16},
                {"beta_fast", 24},
                {"rope_theta", 500.0},
                {"truncate", false},
                {"attention_factor", 1.25}};
      c["use_sliding_window"] = false;
      c["sliding_window"] = 4096;
    });
  };
  for (const ModelConfig& config : {yarn("rope_scaling", "type"), yarn("rope_parameters", "rope_type")}) {
    CHECK(config.rope_scaling.factor == 4.0);
    CHECK(config.rope_scaling.original_max_position == 16);
    CHECK(config.rope_scaling.beta_fast == 24);
    CHECK(config.rope_scaling.beta_slow == 1);
    CHECK(config.rope_scaling.attention_factor == 1.25);
    CHECK_FALSE(config.rope_scaling.truncate);
    CHECK(config.qkv_bias);
    CHECK(config.shared_intermediate_size == 4);
    CHECK(config.sliding_window == 0);
  }

  const Scratch scratch;
  TinyCheckpoint tiny("mixtral");
  tiny.write(scratch);
  scratch.write("generation_config.json", R"({"eos_token_id": [5, 6], "bos_token_id": 1})");
  CHECK(read_config(scratch.path()).eos_token_ids == std::vector<int32_t>{5, 6});
  CHECK(read_config(scratch.path()).bos_token_id == 1);
}

TEST_CASE("config: what cannot be computed is refused by name") {
  refuse_config("mixtral", "model_type", "llama",
                "model_type: architecture not supported (expected one of mixtral, qwen2_moe, qwen3_moe, "
                "olmoe, glm4_moe, gpt_oss, got llama)");
  refuse_config("mixtral", "hidden_act", "gelu",
                "hidden_act: activation not supported (expected silu, got gelu)");
  refuse_config("mixtral", "quantization_config", {{"quant_method", "awq"}},
                "quantization_config: weights quantised by awq not supported (expected fp8");
  refuse_config("mixtral", "attention_bias", true, "attention biases not supported");
  refuse_config("qwen2_moe", "use_sliding_window", true, "sliding windows not supported");
  refuse_config("qwen3_moe", "layer_types", {"full_attention", "sliding_attention"},
                "layer_types[1]: sliding windows");
  refuse_config(
      "mixtral", "rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}},
      "rope_scaling.rope_type: rotary scaling not supported (expected default or yarn, got llama3)");
  refuse_config("mixtral", "rope_scaling", {{"type", "dynamic"}},
                "rope_scaling.type: rotary scaling not supported");
  refuse_config("mixtral", "rope_parameters", {{"full_attention", {{"rope_type", "default"}}}},
                "missing key \"type\"");
  refuse_config("mixtral", "rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}},
                "expected 1, got 0.5");
  refuse_config("mixtral", "rope_scaling", {{"type", "yarn"}}, "missing key \"factor\"");
  refuse_config("mixtral", "rope_scaling", {{"type", "yarn"}, {"factor", 0.5}},
                "expected a number of at least 1");
  refuse_config("mixtral", "rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"mscale", 1}},
                "mscale: not supported");
  refuse_config("mixtral", "torch_dtype", "float8_e4m3fn",
                "torch_dtype: wrong value (expected float32, float16 or bfloat16");
}

TEST_CASE("config: impossible values are refused") {
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                          "vocab_size", "max_position_embeddings", "num_experts_per_tok", "num_local_experts",
                          "intermediate_size", "head_dim"}) {
    for (const Json& value :
         {Json(0), Json(-1), Json(1099511627776), Json(1.5), Json("8"), Json(true), Json(1e30)}) {
      refuse_config("mixtral", key, value, std::string(key) + ": wrong value (expected");
    }
    if (key == std::string("head_dim")) continue;
    TinyCheckpoint tiny("mixtral");
    tiny.config.erase(key);
    check_error(ExitCode::kData, std::string("missing key \"") + key + "\"",
                [&] { parse_config(JsonDocument(tiny.config.dump(), "config.json")); });
  }
  for (const char* key :
       {"num_experts", "moe_intermediate_size", "shared_expert_intermediate_size", "decoder_sparse_step"}) {
    refuse_config("qwen2_moe", key, 0, std::string(key) + ": wrong value (expected");
  }
  refuse_config("mixtral", "num_experts_per_tok", 4,
                "num_experts_per_tok: wrong value (expected an integer from 1 to 3, got 4)");
  refuse_config("mixtral", "num_key_value_heads", 3, "num_key_value_heads: wrong value");
  refuse_config("mixtral", "head_dim", 5, "head size cannot be rotated (expected even");
  refuse_config("mixtral", "head_dim", nullptr,
                "head size cannot be rotated (expected even, at most 4096, got 3)");
  refuse_config("mixtral", "rms_norm_eps", 0, "rms_norm_eps: wrong value (expected a number above 0, got 0)");
  refuse_config("mixtral", "rms_norm_eps", -1e-5, "rms_norm_eps");
  refuse_config("mixtral", "rms_norm_eps", 1e300, "rms_norm_eps");
  refuse_config("mixtral", "rms_norm_eps", 1e-60, "rms_norm_eps");
  refuse_config("mixtral", "rope_theta", 0, "rope_theta");
  refuse_config("mixtral", "sliding_window", 0, "sliding_window: wrong value");
  refuse_config("mixtral", "num_experts", 4,
                "num_experts: wrong value (expected the same as num_local_experts, got 4)");
  refuse_config("mixtral", "eos_token_id", 7,
                "eos_token_id: wrong value (expected an integer from -1 to 6, got 7)");
  refuse_config("mixtral", "eos_token_id", {1, "x"}, "eos_token_id[1]: wrong value");
  refuse_config("mixtral", "tie_word_embeddings", "yes",
                "tie_word_embeddings: wrong value (expected true or false");
  refuse_config("qwen2_moe", "mlp_only_layers", {0, 1}, "no layer has experts");
  refuse_config("qwen2_moe", "mlp_only_layers", {2}, "mlp_only_layers[0]: wrong value");
  refuse_config("qwen2_moe", "decoder_sparse_step", 3, "no layer has experts");
  check_error(ExitCode::kData, "config.json:1:1: top level: wrong value (expected an object",
              [] { parse_config(JsonDocument("[]", "config.json")); });
}

TEST_CASE("config: damaged text never does harm") {
  const std::string text = TinyCheckpoint("qwen2_moe").config.dump();
  std::mt19937 random(4);
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = text;
    for (unsigned i = 0; i < 1 + random() % 3; ++i) {
      damaged[random() % damaged.size()] = "0123456789[]{},:\"-e."[random() % 20];
    }
    try {
      parse_config(JsonDocument(damaged, "f"));
    } catch (const Error& error) {
      CHECK(error.code() == ExitCode::kData);
    }
  }
}

TEST_CASE("config: parameters are counted") {
  const ModelConfig config = config_with("qwen2_moe", [](Json& c) { c["mlp_only_layers"] = {0}; });
  const ParameterCounts all = count_parameters(config);
  CHECK(all.experts == 3 * 3 * 5 * 6);
  CHECK(all.total - all.active == 3 * 5 * 6);  // one of three experts rests
  const ParameterCounts pruned = count_parameters(config, 2, 1);
  CHECK(all.total - pruned.total == 3 * 5 * 6 + 6);  // an expert and its router row
  CHECK(pruned.total - pruned.active == 3 * 5 * 6);
  CHECK(count_parameters(config, 1, 2).active == count_parameters(config, 1, 1).active);
}

TEST_CASE("checkpoint: the golden checkpoints load") {
  const std::filesystem::path golden = std::filesystem::path(EEP_SOURCE_DIR) / "tests" / "golden";
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(golden)) {
    if (!file_exists((entry.path() / "config.json").string())) continue;
    CAPTURE(entry.path().string());
    const RawModel model = load_checkpoint(entry.path().string());
    const ParameterCounts counts = count_parameters(model.config);
    const size_t size = dtype_size(model.config.dtype);
    const bool biased = model.config.router_score == RouterScore::kSigmoid;  // in f32
    const int64_t biases = biased ? model.config.sparse_layers() * model.config.num_experts : 0;
    const size_t plain = static_cast<size_t>(counts.total) * size + static_cast<size_t>(biases) * (4 - size);
    CHECK((model.config.stored_in_codes() ? model.bytes < plain : model.bytes == plain));
    ++count;
  }
  CHECK(count >= 10);
}

}  // namespace eep
