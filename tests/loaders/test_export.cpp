// Exports: what a reloaded checkpoint computes against the plan in memory, what is refused, and which files
// appear when.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "engine/forward.h"
#include "engine/ops.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/dead_experts.h"
#include "loaders/models/export.h"
#include "loaders/models/export_config.h"
#include "loaders/models/export_directory.h"
#include "loaders/models/families.h"
#include "loaders/models/model_hash.h"
#include "tests/loaders/tiny_checkpoint.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

std::vector<float> logits_of(const RawModel& raw, const ExpertPlan& plan) {
  const Weights weights(raw, cpu_ops());
  PopulationForward forward(weights, 0);
  const std::vector<int32_t> tokens{1, 4, 2, 0, 6, 3, 5, 5};
  return forward.logits(plan, tokens);
}

// The exported model's own router, on logits: the arithmetic of a plan in that space.
ExpertPlan own_plan(const RawModel& raw) {
  ExpertPlan plan = identity_plan(raw.config.sparse, static_cast<int32_t>(raw.config.num_experts),
                                  static_cast<int32_t>(raw.config.top_k));
  plan.router_space = RouterSpace::kLogits;
  return plan;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0, scale = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::fabs(double{a[i]} - double{b[i]}));
    scale = std::max(scale, std::fabs(double{b[i]}));
  }
  return largest / scale;
}

enum class Rows { kOneHot, kDense };

std::vector<float> random_matrix(int32_t kept, int32_t experts, Rows rows, std::mt19937& random) {
  std::vector<float> matrix(static_cast<size_t>(kept * experts), 0.0f);
  std::uniform_real_distribution<float> noise(-0.3f, 0.3f);
  for (int32_t row = 0; row < kept; ++row) {
    float* values = matrix.data() + row * experts;
    if (rows == Rows::kDense) {
      for (int32_t i = 0; i < experts; ++i) values[i] = noise(random);
      values[random() % static_cast<uint32_t>(experts)] = 0.0f;
    }
    values[(row + 1) % experts] = 1.0f;
  }
  return matrix;
}

// One group a layer.
ExpertPlan random_plan(const ModelConfig& config, std::vector<int32_t> kept, RouterSpace space, Rows router,
                       Rows merging, uint32_t seed) {
  std::mt19937 random(seed);
  ExpertPlan plan;
  plan.top_k = 2;
  plan.router_space = space;
  const int32_t experts = static_cast<int32_t>(config.num_experts);
  for (const std::vector<int32_t>& layers :
       split_layers(config.sparse, static_cast<int32_t>(config.sparse_layers()))) {
    PlanGroup group;
    group.layers = layers;
    group.kept = kept[plan.groups.size() % kept.size()];
    group.experts = experts;
    group.router_mapping = random_matrix(group.kept, experts, router, random);
    group.expert_merging = random_matrix(group.kept, experts, merging, random);
    plan.groups.push_back(group);
  }
  return plan;
}

void export_to(const RawModel& raw, const std::string& source, const ExpertPlan& plan, ExportFormat format,
               const std::string& out, size_t shard_bytes = 0) {
  ExportOptions options;
  options.format = format;
  options.shard_bytes = shard_bytes;
  options.source_hash = model_hash(raw);
  options.program = "eep test";
  export_checkpoint(raw, source, plan, plan_info(raw.config), options, out);
}

}  // namespace

TEST_CASE("export: a reloaded checkpoint computes what the plan in memory computes, to the bit") {
  for (const FamilyRow& row : families()) {
    const std::string family = family_name(row.family);
    for (TinyLayout layout : {TinyLayout::kPerExpert, TinyLayout::kFused, TinyLayout::kTransposed}) {
      for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        CAPTURE(family);
        CAPTURE(static_cast<int>(layout));
        CAPTURE(dtype_name(dtype));
        const Scratch source, target;
        TinyCheckpoint(family, layout, dtype).write(source);
        const RawModel raw = load_checkpoint(source.path());
        for (Rows merging : {Rows::kOneHot, Rows::kDense}) {
          const ExpertPlan plan =
              random_plan(raw.config, {2}, RouterSpace::kLogits, Rows::kOneHot, merging, 7);
          REQUIRE(hf_bit_exact(plan));
          const std::string out = target.path(merging == Rows::kDense ? "dense" : "one_hot");
          export_to(raw, source.path(), plan, ExportFormat::kHf, out);
          const RawModel again = load_checkpoint(out);
          CHECK(again.config.num_experts == 2);
          CHECK(again.config.top_k == 2);
          CHECK(logits_of(again, own_plan(again)) == logits_of(raw, plan));
        }
      }
    }
  }
}

TEST_CASE("export: a dense map on logits is folded into the gate") {
  const Scratch source;
  TinyCheckpoint("qwen2_moe").write(source);
  const RawModel raw = load_checkpoint(source.path());
  const ExpertPlan plan = random_plan(raw.config, {2}, RouterSpace::kLogits, Rows::kDense, Rows::kDense, 3);
  CHECK(!hf_bit_exact(plan));
  export_to(raw, source.path(), plan, ExportFormat::kHf, source.path("out"));
  const RawModel again = load_checkpoint(source.path("out"));
  // All experts kept are active (kept = top_k), so no selection can flip: what remains is the order of the
  // sums of one f32 product of 6 by 3 terms in two layers.
  CHECK(largest_difference(logits_of(again, own_plan(again)), logits_of(raw, plan)) < 1e-5);
}

TEST_CASE("export: one-hot rows on probabilities, where the family renormalises") {
  const Scratch source;
  TinyCheckpoint("mixtral").write(source);
  const RawModel raw = load_checkpoint(source.path());
  const ExpertPlan plan =
      random_plan(raw.config, {2}, RouterSpace::kProbabilities, Rows::kOneHot, Rows::kDense, 3);
  export_to(raw, source.path(), plan, ExportFormat::kHf, source.path("out"));
  const RawModel again = load_checkpoint(source.path("out"));
  CHECK(largest_difference(logits_of(again, own_plan(again)), logits_of(raw, plan)) < 1e-5);
}

TEST_CASE("export: the native layout holds any plan, to the bit") {
  for (const FamilyRow& row : families()) {
    const std::string family = family_name(row.family);
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      for (RouterSpace space : {RouterSpace::kProbabilities, RouterSpace::kLogits}) {
        CAPTURE(family);
        const Scratch source;
        TinyCheckpoint(family, TinyLayout::kFused, dtype).write(source);
        const RawModel raw = load_checkpoint(source.path());
        const bool one = raw.config.sparse_layers() == 1;
        const std::vector<int32_t> counts = one ? std::vector<int32_t>{2} : std::vector<int32_t>{1, 3};
        const ExpertPlan plan = random_plan(raw.config, counts, space, Rows::kDense, Rows::kDense, 11);
        if (!one) CHECK(hf_obstacle(raw.config, plan).find("different numbers") != std::string::npos);
        export_to(raw, source.path(), plan, ExportFormat::kNative, source.path("out"), 300);
        CHECK(!fs::exists(source.path("out/config.json")));  // no stock loader may try
        const RawModel again = load_checkpoint(source.path("out"));
        REQUIRE(again.plan.has_value());
        CHECK(again.layers[0].experts.size() == (one ? 0 : 1));
        CHECK(again.layers[1].experts.size() == (one ? 2 : 3));
        CHECK(again.files.size() > 1);
        CHECK(logits_of(again, *again.plan) == logits_of(raw, plan));
        check_error(ExitCode::kData, "already is the result of a plan", [&] {
          export_to(again, source.path("out"), plan, ExportFormat::kHf, source.path("twice"));
        });
        std::string text = read_file(source.path("out/plan.json"));
        text.replace(text.find("\"expert_merging\": [\n   [1,"), 26, "\"expert_merging\": [\n   [0.5,");
        source.write("out/plan.json", text);
        check_error(ExitCode::kData, "stored experts", [&] { load_checkpoint(source.path("out")); });
      }
    }
  }
}

TEST_CASE("export: what a stock loader cannot express is refused with the reason") {
  const auto refused = [](const char* family, bool renormalise, RouterSpace space, Rows rows,
                          std::vector<int32_t> kept) {
    const Scratch source;
    TinyCheckpoint tiny(family);
    tiny.config["norm_topk_prob"] = renormalise;
    tiny.write(source);
    const RawModel raw = load_checkpoint(source.path());
    const ExpertPlan plan = random_plan(raw.config, kept, space, rows, Rows::kOneHot, 5);
    const std::string obstacle = hf_obstacle(raw.config, plan);
    if (!obstacle.empty()) {
      check_error(ExitCode::kData, obstacle,
                  [&] { export_to(raw, source.path(), plan, ExportFormat::kHf, source.path("out")); });
      CHECK(!fs::exists(source.path("out")));
      CHECK(!fs::exists(source.path("out.partial")));
    }
    return obstacle;
  };
  const auto has = [](const std::string& text, const char* part) {
    INFO(text);
    CHECK(text.find(part) != std::string::npos);
  };
  CHECK(refused("mixtral", true, RouterSpace::kProbabilities, Rows::kOneHot, {2}).empty());
  CHECK(refused("qwen3_moe", true, RouterSpace::kProbabilities, Rows::kOneHot, {2}).empty());
  CHECK(refused("qwen2_moe", false, RouterSpace::kLogits, Rows::kDense, {2}).empty());
  CHECK(refused("qwen2_moe", false, RouterSpace::kProbabilities, Rows::kOneHot, {3}).empty());   // all kept
  has(refused("mixtral", true, RouterSpace::kProbabilities, Rows::kDense, {2}), "not one-hot");  // = top_k
  has(refused("qwen2_moe", false, RouterSpace::kProbabilities, Rows::kOneHot, {2}), "norm_topk_prob");
  has(refused("qwen3_moe", true, RouterSpace::kLogits, Rows::kOneHot, {2, 3}), "different numbers");
}

TEST_CASE("export: config.json keeps its text, side files their bytes") {
  const Scratch source;
  TinyCheckpoint tiny("qwen3_moe");
  tiny.write(source);
  const std::string config =
      R"({"model_type": "qwen3_moe", "note": "num_experts\": 9", "nested": {"num_experts": 77},
  "num_experts" :3,"num_experts_per_tok": 2, "hidden_size": 6, "num_hidden_layers": 2, "head_dim": 4,
  "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 7, "max_position_embeddings": 64,
  "moe_intermediate_size": 5, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "norm_topk_prob": true})";
  source.write("config.json", config);
  source.write("tokenizer.json", "{}");
  source.write("chat_template.jinja", "{{ messages }}");
  source.write("generation_config.json", "{\"eos_token_id\": [2, 3]}");
  source.write("LICENSE", "as is");
  for (const char* name :
       {"license.txt", "COPYING", "processor_config.json", "additional_chat_templates/tool_use.jinja",
        "MODEL_LICENSE", "Third-Party-Notices.md", "LICENSES/MIT.txt", "licence.d/parts/a b", "Notices/x",
        "LEGAL.md", "processing_own.py", "feature_extractor_config.json"})
    source.write(name, name);
  source.write("docs/LICENSE", "of the documents");
  source.write("pytorch_model.bin", "not copied");
  source.write("notes.txt", "not for others");
  source.write("README.md", "---\nlicense: apache-2.0\nmodel: x\n---\n# Card\n");
  const RawModel raw = load_checkpoint(source.path());
  ExpertPlan plan = random_plan(raw.config, {1}, RouterSpace::kLogits, Rows::kOneHot, Rows::kOneHot, 5);
  export_to(raw, source.path(), plan, ExportFormat::kHf, source.path("out"));
  std::string expected = config;
  expected.replace(expected.find("\"num_experts\" :3"), 16, "\"num_experts\" :1");
  expected.replace(expected.find("per_tok\": 2"), 11, "per_tok\": 1");  // top_k never above the count
  CHECK(read_file(source.path("out/config.json")) == expected);
  for (const char* name :
       {"tokenizer.json", "chat_template.jinja", "generation_config.json", "LICENSE", "license.txt",
        "COPYING", "processor_config.json", "additional_chat_templates/tool_use.jinja", "MODEL_LICENSE",
        "LEGAL.md", "processing_own.py", "feature_extractor_config.json", "Third-Party-Notices.md",
        "LICENSES/MIT.txt", "licence.d/parts/a b", "Notices/x"}) {
    CHECK(read_file(source.path(std::string("out/") + name)) == read_file(source.path(name)));
  }
  CHECK(!fs::exists(source.path("out/docs")));
  CHECK(!fs::exists(source.path("out/notes.txt")));
  CHECK(!fs::exists(source.path("out/pytorch_model.bin")));
  const std::string card = read_file(source.path("out/README.md"));
  CHECK(card.find("license: apache-2.0\n") != std::string::npos);
  CHECK(card.find("# Card") == std::string::npos);
  const Json provenance = parse_json(read_file(source.path("out/eep_provenance.json")), "provenance");
  CHECK(provenance["source"]["hash"] == model_hash(raw));
  PlanInfo info;
  CHECK(read_plan(source.path("out/eep_plan.json"), &info) == plan);
  CHECK(info.hash == model_hash(raw));
  CHECK(with_config_number("{\"a\":{\"b\":1},\"b\":2}", "b", 5) == "{\"a\":{\"b\":1},\"b\":5}");
  CHECK(with_config_number("{\"a\":1}", "b", 5) == "{\"a\":1}");
  // Every holder: a wrapper's text model too, and no list or other part.
  CHECK(with_config_number(R"({"b": 1, "text_config": {"b": 1, "c": {"b": 1}}, "x": [{"b": 1}]})", "b", 5) ==
        R"({"b": 5, "text_config": {"b": 5, "c": {"b": 1}}, "x": [{"b": 1}]})");
}

TEST_CASE("export: the card names the model as the hub does, and no directory of this machine") {
  const Scratch scratch;
  const std::string model = "models--Org--Tiny-MoE/snapshots/0123abc";
  fs::create_directories(scratch.path(model));
  TinyCheckpoint("mixtral").write(scratch);
  for (const char* name : {"config.json", "model.safetensors"})
    fs::copy(scratch.path(name), scratch.path(model + "/" + name));
  const RawModel raw = load_checkpoint(scratch.path(model));
  const ExpertPlan plan = random_plan(raw.config, {1}, RouterSpace::kLogits, Rows::kOneHot, Rows::kOneHot, 5);
  ExportOptions options;
  options.source_hash = model_hash(raw);
  options.command =
      "eep export " + scratch.path(model) + " --plan=/data/ann/p.json --out " + scratch.path("out");
  export_checkpoint(raw, scratch.path(model), plan, plan_info(raw.config, options.source_hash, {}), options,
                    scratch.path("out"));
  const std::string card = read_file(scratch.path("out/README.md"));
  CHECK(card.find("base_model: \"Org/Tiny-MoE\"\n") != std::string::npos);
  CHECK(card.find("eep export Org/Tiny-MoE --plan=p.json --out out\n") != std::string::npos);
  CHECK(card.find("/data") == std::string::npos);
  CHECK(card.find(scratch.path()) == std::string::npos);
}

TEST_CASE("export: gate rows that become equal are told, values that are not finite refused") {
  const Scratch source;
  TinyCheckpoint tiny("mixtral", TinyLayout::kPerExpert, DType::kBF16);
  tiny.write(source);
  const RawModel raw = load_checkpoint(source.path());
  ExpertPlan plan = random_plan(raw.config, {2}, RouterSpace::kLogits, Rows::kDense, Rows::kOneHot, 5);
  CHECK(router_ties(raw, plan, Device{}).empty());
  PlanGroup& group = plan.groups[0];
  for (int32_t i = 0; i < group.experts; ++i) {  // as far apart as a 16-bit row cannot tell
    group.router_mapping[static_cast<size_t>(group.experts + i)] =
        group.router_mapping[static_cast<size_t>(i)] * 1.000001f;
  }
  REQUIRE(!router_ties(raw, plan, Device{}).empty());
  CHECK(router_ties(raw, plan, Device{})[0].what.find("gate rows 0 and 1 are equal in BF16") !=
        std::string::npos);

  group.expert_merging.assign(group.expert_merging.size(), 3e38f);
  check_error(ExitCode::kData, "not finite",
              [&] { export_to(raw, source.path(), plan, ExportFormat::kHf, source.path("large")); });
  CHECK(!fs::exists(source.path("large.partial")));
}

TEST_CASE("export: what is not finite in the source is named as the source has it") {
  const Scratch source;
  TinyCheckpoint tiny("mixtral");
  const std::string name = "model.layers.1.block_sparse_moe.experts.2.w1.weight";
  const float infinite = std::numeric_limits<float>::infinity();
  std::memcpy(tiny.tensors[name].bytes.data() + 8, &infinite, sizeof(infinite));
  tiny.write(source);
  const RawModel raw = load_checkpoint(source.path());
  ExpertPlan plan;  // expert 2 becomes expert 0 of the export
  plan.top_k = 1;
  plan.groups.push_back(one_hot_group({0, 1}, {2}, 3));
  check_error(ExitCode::kData, name + ": element 2 is not finite",
              [&] { export_to(raw, source.path(), plan, ExportFormat::kHf, source.path("out")); });
}

TEST_CASE("export: experts that are dead in the source, and gate rows equal there, are told") {
  const Scratch source;
  TinyCheckpoint tiny("mixtral");
  const std::string moe = "model.layers.1.block_sparse_moe.";
  std::string& down = tiny.tensors[moe + "experts.2.w2.weight"].bytes;
  down.assign(down.size(), '\0');
  std::string& gate = tiny.tensors[moe + "gate.weight"].bytes;
  gate.replace(gate.size() / 3, gate.size() / 3, gate.substr(0, gate.size() / 3));
  tiny.write(source);
  const RawModel raw = load_checkpoint(source.path());
  const auto plan_of = [&](const std::vector<int32_t>& kept) {
    ExpertPlan plan;
    plan.top_k = 1;
    plan.groups.push_back(one_hot_group({0, 1}, kept, 3));
    return plan;
  };
  CHECK(dead_in_source(raw, plan_of({0, 1})) ==
        std::vector<std::string>{
            "layer 1: gate rows 0 and 1 are equal in the source: these experts tie, and the router "
            "takes one of them at every token"});
  CHECK(dead_in_source(raw, plan_of({0, 2})) ==
        std::vector<std::string>{
            "layer 1: kept experts 1 put out zero whatever comes in (of the source's 2 do)"});
  ExpertPlan all = plan_of({0, 1});
  all.top_k = 2;  // every kept expert is active: none is passed over
  CHECK(dead_in_source(raw, all).empty());
}

TEST_CASE("export: a selection bias tells equal gate rows apart") {
  const Scratch source;
  TinyCheckpoint("glm4_moe", TinyLayout::kPerExpert, DType::kBF16).write(source);
  const RawModel raw = load_checkpoint(source.path());
  REQUIRE(raw.layers.back().router_bias);
  ExpertPlan plan = random_plan(raw.config, {2}, RouterSpace::kLogits, Rows::kDense, Rows::kOneHot, 5);
  PlanGroup& group = plan.groups[0];
  const auto second_as_first = [&](float factor) {
    for (int32_t i = 0; i < group.experts; ++i)
      group.router_mapping[static_cast<size_t>(group.experts + i)] =
          group.router_mapping[static_cast<size_t>(i)] * factor;
  };
  second_as_first(1);
  CHECK(router_ties(raw, plan, Device{}).size() == 1);
  second_as_first(1.000001f);  // the gate has 16 bits, the bias 32
  CHECK(router_ties(raw, plan, Device{}).empty() == (raw.layers.back().router_bias.dtype == DType::kF32));
}

TEST_CASE("export: shards follow the limit, and the index holds every tensor") {
  const Scratch source;
  TinyCheckpoint tiny("mixtral");
  tiny.write(source);
  const RawModel raw = load_checkpoint(source.path());
  const ExpertPlan plan = random_plan(raw.config, {2}, RouterSpace::kLogits, Rows::kOneHot, Rows::kDense, 5);
  export_to(raw, source.path(), plan, ExportFormat::kHf, source.path("one"));
  CHECK(fs::exists(source.path("one/model.safetensors")));
  CHECK(!fs::exists(source.path("one/model.safetensors.index.json")));
  export_to(raw, source.path(), plan, ExportFormat::kHf, source.path("many"), 500);
  const RawModel one = load_checkpoint(source.path("one")), many = load_checkpoint(source.path("many"));
  CHECK(many.files.size() > 3);
  CHECK(model_hash(one) == model_hash(many));
  for (const MappedFile& file : many.files) CHECK(SafetensorsFile(file.path()).header.metadata.size() == 1);
  const Json index = parse_json(read_file(source.path("many/model.safetensors.index.json")), "index");
  CHECK(index["metadata"]["total_size"].get<size_t>() == many.bytes);
}

TEST_CASE("export: a directory appears whole or not at all") {
  const Scratch scratch;
  {
    ExportDirectory directory(scratch.path("a/b/out/"));
    write_file_atomic(directory.file("x"), "1");
    CHECK(fs::exists(scratch.path("a/b/out.partial/x")));
    CHECK(!fs::exists(scratch.path("a/b/out")));
    check_error(ExitCode::kRuntime, "another process", [&] { ExportDirectory(scratch.path("a/b/out")); });
  }
  CHECK(!fs::exists(scratch.path("a/b/out.partial")));
  scratch.write("a/b/out.partial/.eep-partial", "");  // a killed attempt
  scratch.write("a/b/out.partial/stale", "0");
  {
    ExportDirectory directory(scratch.path("a/b/out"));
    write_file_atomic(directory.file("x"), "2");
    directory.commit();
  }
  CHECK(fs::exists(scratch.path("a/b/out/x")));
  CHECK(std::distance(fs::directory_iterator(scratch.path("a/b/out")), fs::directory_iterator()) == 1);
  CHECK(!fs::exists(scratch.path("a/b/out.partial")));
  check_error(ExitCode::kUsage, "not empty", [&] { ExportDirectory(scratch.path("a/b/out")); });
  check_error(ExitCode::kUsage, "is a file or a link", [&] { ExportDirectory(scratch.path("a/b/out/x")); });
  check_error(ExitCode::kIo, "cannot create", [&] { ExportDirectory(scratch.path("a/b/out/x/y")); });
  {  // until it has its name, it is known as an unfinished export, whenever it is killed
    ExportDirectory directory(scratch.path("d"));
    scratch.write("d/theirs", "");
    check_error(ExitCode::kIo, "cannot write", [&] { directory.commit(); });
    CHECK(fs::exists(scratch.path("d.partial/.eep-partial")));
  }
  scratch.write("c.partial/mine", "keep");
  check_error(ExitCode::kUsage, "in the way", [&] { ExportDirectory(scratch.path("c")); });
  CHECK(fs::exists(scratch.path("c.partial/mine")));
  fs::create_directories(scratch.path("empty"));
  ExportDirectory(scratch.path("empty")).commit();
}

}  // namespace eep
