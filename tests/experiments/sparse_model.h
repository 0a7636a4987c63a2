// A Mixtral checkpoint of any size whose weights are a hole in the file: zeros that take no disk.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "loaders/formats/json.h"
#include "tests/experiments/process.h"

namespace eep::test {

struct SparseModel {
  int64_t vocab_size = 16, hidden_size = 64, intermediate_size = 64, num_layers = 1, num_experts = 2;

  // Files of the model in `directory`, bf16. False where the file system cannot hold a file of that size.
  bool write(const TempDir& directory, const std::string& name) const {
    std::filesystem::create_directory(directory(name));
    directory.write(name + "/config.json", Json{{"architectures", {"MixtralForCausalLM"}},
                                                {"model_type", "mixtral"},
                                                {"vocab_size", vocab_size},
                                                {"hidden_size", hidden_size},
                                                {"intermediate_size", intermediate_size},
                                                {"num_hidden_layers", num_layers},
                                                {"num_attention_heads", 1},
                                                {"num_key_value_heads", 1},
                                                {"head_dim", 64},
                                                {"max_position_embeddings", 64},
                                                {"rms_norm_eps", 1e-5},
                                                {"hidden_act", "silu"},
                                                {"rope_theta", 10000.0},
                                                {"tie_word_embeddings", true},
                                                {"num_local_experts", num_experts},
                                                {"num_experts_per_tok", 1},
                                                {"torch_dtype", "bfloat16"}}
                                               .dump(1));
    Json header{{"__metadata__", {{"format", "pt"}}}};
    int64_t end = 0;
    const auto add = [&](const std::string& tensor, const std::vector<int64_t>& shape) {
      int64_t bytes = 2;
      for (int64_t extent : shape) bytes *= extent;
      header[tensor] = {{"dtype", "BF16"}, {"shape", shape}, {"data_offsets", {end, end + bytes}}};
      end += bytes;
    };
    add("model.embed_tokens.weight", {vocab_size, hidden_size});
    for (int64_t layer = 0; layer < num_layers; ++layer) {
      const std::string prefix = "model.layers." + std::to_string(layer) + ".";
      add(prefix + "input_layernorm.weight", {hidden_size});
      for (const char* letter : {"q", "k", "v"}) {
        add(prefix + "self_attn." + letter + "_proj.weight", {64, hidden_size});
      }
      add(prefix + "self_attn.o_proj.weight", {hidden_size, 64});
      add(prefix + "post_attention_layernorm.weight", {hidden_size});
      add(prefix + "block_sparse_moe.gate.weight", {num_experts, hidden_size});
      for (int64_t expert = 0; expert < num_experts; ++expert) {
        const std::string own = prefix + "block_sparse_moe.experts." + std::to_string(expert) + ".";
        add(own + "w1.weight", {intermediate_size, hidden_size});
        add(own + "w3.weight", {intermediate_size, hidden_size});
        add(own + "w2.weight", {hidden_size, intermediate_size});
      }
    }
    add("model.norm.weight", {hidden_size});
    std::string text = header.dump();
    text.resize((text.size() + 7) / 8 * 8, ' ');
    std::string start(8, '\0');
    const uint64_t length = text.size();
    std::memcpy(start.data(), &length, sizeof length);
    const std::string path = directory.write(name + "/model.safetensors", start + text);
    return ::truncate(path.c_str(), static_cast<off_t>(8 + text.size()) + end) == 0;
  }
};

}  // namespace eep::test
