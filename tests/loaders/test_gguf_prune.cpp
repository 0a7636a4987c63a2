// GGUF files without some experts: what is left is the bytes of the source, and the model that an export of
// the converted checkpoint gives.
#include <doctest/doctest.h>

#include "loaders/models/checkpoint.h"
#include "loaders/models/export.h"
#include "loaders/models/gguf_convert.h"
#include "loaders/models/gguf_prune.h"
#include "tests/loaders/gguf_writer.h"
#include "tests/loaders/scratch.h"

namespace eep {
namespace {

GgufFile parse(const std::string& bytes, GgufTensors tensors = GgufTensors::kStored) {
  return parse_gguf(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size(), "m.gguf", tensors);
}

// Another choice in each of two layers.
GgufPruning choice(const std::vector<int32_t>& first, const std::vector<int32_t>& second, int32_t experts) {
  GgufPruning pruning;
  pruning.plan.groups = {one_hot_group({0}, first, experts), one_hot_group({1}, second, experts)};
  pruning.plan.top_k = 2;
  return pruning;
}

std::string pruned(const std::string& source, const GgufPruning& pruning) {
  const GgufFile file = parse(source);
  const PrunedGguf result(file, pruning);
  std::string bytes;
  result.produce([&](const void* data, size_t size) { bytes.append(static_cast<const char*>(data), size); });
  CHECK(bytes.size() == result.bytes());
  return bytes;
}

RawModel load(const ConvertedModel& model, const std::string& directory) {
  std::filesystem::create_directories(directory);
  write_file_atomic(directory + "/config.json", model.config.dump());
  write_shards(directory, "model", model.tensors, 0, {});
  return load_checkpoint(directory);
}

std::string bytes_of(const StreamedTensor& tensor) {
  std::string bytes;
  tensor.produce([&](const void* data, size_t size) { bytes.append(static_cast<const char*>(data), size); });
  return bytes;
}

// A model of two layers whose expert weights are blocks of a type that nothing here reads.
GgufWriter coded_model(uint32_t type, size_t block_bytes) {
  GgufWriter writer;
  writer.string("general.architecture", "unheard");
  writer.integer("unheard.block_count", 2);
  writer.integer("unheard.expert_count", 5);
  writer.integer("unheard.expert_used_count", 3);
  writer.texts("tokenizer.ggml.tokens", {"a", "b"});
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    writer.tensor(layer + "ffn_gate_inp.weight", {5, 7});
    writer.tensor(layer + "exp_probs_b.bias", {5});
    std::string blocks;
    for (size_t i = 0; i < 5 * 3 * block_bytes; ++i) blocks += static_cast<char>(i * 7 + 3);
    writer.stored_tensor(layer + "ffn_down_exps.weight", {5, 3, 256}, type, blocks);
    writer.tensor(layer + "ffn_down_exps.bias", {5, 3});
    writer.tensor(layer + "ffn_gate_shexp.weight", {5, 3});
  }
  return writer;
}

}  // namespace

TEST_CASE("gguf: pruned and converted is converted and exported, byte for byte") {
  for (const char* architecture : {"llama", "qwen2moe", "qwen3moe", "olmoe", "gpt-oss"}) {
    for (const bool single : {false, true}) {
      if (single && std::string(architecture) != "llama") continue;
      CAPTURE(architecture);
      GgufWriter writer;
      writer.model(architecture, 5, single);
      const std::string source = writer.bytes();
      const GgufPruning pruning = choice({4, 1, 2}, {0, 3, 1}, 5);
      const std::string left = pruned(source, pruning);
      const GgufFile smaller = parse(left, GgufTensors::kRead);
      const ConvertedModel converted = convert_gguf(smaller, DType::kF32);
      CHECK(
          converted.config[converted.config.contains("num_experts") ? "num_experts" : "num_local_experts"] ==
          3);
      const Scratch scratch;
      const GgufFile file = parse(source, GgufTensors::kRead);
      const RawModel raw = load(convert_gguf(file, DType::kF32), scratch.path("whole"));
      std::map<std::string, std::string> expected;
      for (const StreamedTensor& tensor : export_tensors(raw, pruning.plan, ExportFormat::kHf, Device{}))
        expected[tensor.spec.name] = bytes_of(tensor);
      CHECK(converted.tensors.size() == expected.size());
      for (const StreamedTensor& tensor : converted.tensors) {
        CAPTURE(tensor.spec.name);
        CHECK(bytes_of(tensor) == expected[tensor.spec.name]);
      }
    }
  }
}

TEST_CASE("gguf: blocks of any type stay as they are, in files of any architecture") {
  for (const auto& [type, bytes] :
       {std::pair<uint32_t, size_t>{13, 176}, {39, 8 * 17}, {19, 50}, {8, 8 * 34}}) {
    const std::string source = coded_model(type, bytes).bytes();
    const GgufFile before = parse(source);
    const std::string left = pruned(source, choice({3, 0}, {1, 4}, 5));
    const GgufFile after = parse(left);
    CHECK(after.integer("unheard.expert_count", 0, 9) == 2);
    CHECK(after.integer("unheard.expert_used_count", 0, 9) == 2);
    CHECK(after.find_value("tokenizer.ggml.tokens")->texts == std::vector<std::string>{"a", "b"});
    REQUIRE(after.tensors.size() == before.tensors.size());
    for (const char* name :
         {"ffn_gate_inp.weight", "exp_probs_b.bias", "ffn_down_exps.weight", "ffn_down_exps.bias"}) {
      const GgufTensor *whole = before.find(std::string("blk.1.") + name),
                       *part = after.find(std::string("blk.1.") + name);
      REQUIRE(part != nullptr);
      CHECK(part->type == whole->type);
      CHECK(part->shape[0] == 2);
      const size_t row = whole->bytes / 5;
      REQUIRE(part->bytes == 2 * row);
      CHECK(std::memcmp(part->data, whole->data + row, row) == 0);
      CHECK(std::memcmp(part->data + row, whole->data + 4 * row, row) == 0);
    }
    const GgufTensor* shared = after.find("blk.0.ffn_gate_shexp.weight");
    CHECK(shared->shape == std::vector<int64_t>{5, 3});
  }
}

TEST_CASE("gguf: gpt-oss is pruned in either router space, biases too") {
  GgufWriter writer;
  writer.string("general.architecture", "gpt-oss");
  writer.integer("gpt-oss.block_count", 2);
  writer.integer("gpt-oss.expert_count", 5);
  writer.integer("gpt-oss.expert_used_count", 2);
  for (const std::string layer : {"blk.0.", "blk.1."}) {
    writer.tensor(layer + "ffn_gate_inp.weight", {5, 7});
    writer.tensor(layer + "ffn_gate_inp.bias", {5});
    writer.tensor(layer + "ffn_up_exps.weight", {5, 3, 7});
    writer.tensor(layer + "ffn_up_exps.bias", {5, 3});
    writer.tensor(layer + "attn_sinks.weight", {4});
  }
  const std::string source = writer.bytes();
  const GgufFile before = parse(source);
  GgufPruning pruning = choice({3, 0}, {1, 4}, 5);
  pruning.plan.router_space = RouterSpace::kProbabilities;
  pruning.info.family = "gpt_oss";
  const std::string left = pruned(source, pruning);
  const GgufFile after = parse(left);
  for (const std::string name :
       {"ffn_gate_inp.weight", "ffn_gate_inp.bias", "ffn_up_exps.weight", "ffn_up_exps.bias"}) {
    const GgufTensor *whole = before.find("blk.0." + name), *part = after.find("blk.0." + name);
    REQUIRE(part != nullptr);
    const size_t row = whole->bytes / 5;
    REQUIRE(part->bytes == 2 * row);
    CHECK(std::memcmp(part->data, whole->data + 3 * row, row) == 0);
    CHECK(std::memcmp(part->data + row, whole->data, row) == 0);
  }
  CHECK(after.find("blk.1.attn_sinks.weight")->bytes == before.find("blk.1.attn_sinks.weight")->bytes);
  pruning.info.family = "mixtral";
  check_error(ExitCode::kData, "another family (expected gpt_oss, got mixtral)",
              [&] { pruned(source, pruning); });
}

TEST_CASE("gguf: what pruning in place cannot express is refused with the reason") {
  GgufWriter model;
  model.model("qwen2moe", 5);
  const auto refuse = [](const GgufWriter& writer, const GgufPruning& pruning, const std::string& part) {
    const std::string bytes = writer.bytes();
    check_error(ExitCode::kData, part, [&] { pruned(bytes, pruning); });
  };
  refuse(model, choice({0, 1, 2}, {0, 1}, 5), "keeps 3 experts, groups[1] 2");
  refuse(model, choice({0, 1}, {0, 1}, 6), "groups[0] is of 6 experts, and the file has 5");
  GgufPruning merged = choice({0, 1}, {0, 1}, 5);
  merged.plan.groups[1].expert_merging[4] = 0.5f;
  refuse(model, merged, "groups[1] merges experts");
  GgufPruning skipping = choice({0, 1}, {0, 1}, 5);
  skipping.plan.groups[1].skip_below.assign(skipping.plan.groups[1].layers.size(), 0.5f);
  refuse(model, skipping, "it skips experts token by token");
  GgufPruning probabilities = choice({0, 1}, {0, 1}, 5);
  probabilities.plan.router_space = RouterSpace::kProbabilities;
  refuse(model, probabilities, "a smaller softmax gives other weights");
  GgufPruning partly = choice({0, 1}, {0, 1}, 5);
  partly.plan.groups.pop_back();
  refuse(model, partly, "layer 1 of the file has experts and is in no group");
  GgufPruning beyond = choice({0, 1}, {0, 1}, 5);
  beyond.plan.groups[1].layers = {1, 2};
  refuse(model, beyond, "layer 2 of the file has no experts");
  GgufPruning other = choice({0, 1}, {0, 1}, 5);
  other.info.family = "mixtral";
  refuse(model, other, "another family (expected qwen2_moe, got mixtral)");
  GgufWriter groups = model;
  groups.integer("qwen2moe.expert_group_count", 2);
  refuse(groups, choice({0, 1, 2}, {0, 1, 2}, 5), "a multiple of that many kept");
  GgufWriter dense;
  dense.model("llama", 0);
  refuse(dense, choice({0, 1}, {0, 1}, 5), "has no experts");
  GgufWriter odd = model;
  odd.tensor("blk.1.ffn_norm_exps.weight", {8});
  refuse(odd, choice({0, 1}, {0, 1}, 5), "blk.1.ffn_norm_exps.weight: not one row an expert");
}

TEST_CASE("gguf: layers for multi-token prediction are refused, or keep what the last layer keeps") {
  GgufWriter writer;
  writer.string("general.architecture", "glm4moe");
  writer.integer("glm4moe.block_count", 3);
  writer.integer("glm4moe.nextn_predict_layers", 1);
  writer.integer("glm4moe.expert_count", 4);
  writer.integer("glm4moe.expert_used_count", 1);
  for (const std::string layer : {"blk.0.", "blk.1.", "blk.2."})
    writer.tensor(layer + "ffn_up_exps.weight", {4, 3, 5});
  const std::string source = writer.bytes();
  GgufPruning pruning = choice({3, 0}, {2, 1}, 4);
  check_error(ExitCode::kData, "blk.2: a layer for multi-token prediction", [&] { pruned(source, pruning); });
  pruning.prunes_nextn = true;
  const std::string left = pruned(source, pruning);
  const GgufFile before = parse(source), after = parse(left);
  const GgufTensor *whole = before.find("blk.2.ffn_up_exps.weight"),
                   *part = after.find("blk.2.ffn_up_exps.weight");
  CHECK(std::memcmp(part->data, whole->data + whole->bytes / 2, whole->bytes / 4) == 0);  // expert 2
}

}  // namespace eep
