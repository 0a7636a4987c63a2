// Layers that hold different numbers of experts in Hugging Face layout: written, read again, and what is
// refused.
#include <doctest/doctest.h>

#include "engine/forward.h"
#include "engine/ops.h"
#include "loaders/formats/file.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/config_json.h"
#include "loaders/models/export.h"
#include "loaders/models/export_config.h"
#include "loaders/models/families.h"
#include "loaders/models/verify.h"
#include "tests/loaders/tiny_checkpoint.h"

namespace eep {
namespace {

std::vector<float> logits_of(const RawModel& raw, const ExpertPlan& plan) {
  const Weights weights(raw, cpu_ops());
  PopulationForward forward(weights, 0);
  const std::vector<int32_t> tokens{1, 4, 2, 0, 6, 3, 5, 5};
  return forward.logits(plan, tokens);
}

ExportOptions per_layer_options() {
  ExportOptions options;
  options.format = ExportFormat::kHfPerLayer;
  options.program = "eep test";
  return options;
}

// Layer 0 keeps two of three experts, one of them merged; layer 1 keeps all.
ExpertPlan uneven_plan() {
  ExpertPlan plan;
  plan.top_k = 2;
  plan.router_space = RouterSpace::kLogits;
  plan.groups = {one_hot_group({0}, {0, 2}, 3), one_hot_group({1}, {2, 0, 1}, 3)};
  plan.groups[0].expert_merging = {0.75f, 0.25f, 0, 0, 0, 1};
  return plan;
}

}  // namespace

TEST_CASE("layer counts: an export reads back and computes what the plan computes, to the bit") {
  for (const char* family : {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "gpt_oss"}) {
    for (TinyLayout layout : {TinyLayout::kPerExpert, TinyLayout::kFused}) {
      CAPTURE(family);
      const Scratch source, target;
      TinyCheckpoint(family, layout, DType::kBF16).write(source);
      const RawModel raw = load_checkpoint(source.path());
      const ExpertPlan plan = uneven_plan();
      const std::string out = target.path("out");
      check_error(ExitCode::kData, "different numbers of experts", [&] {
        ExportOptions stock = per_layer_options();
        stock.format = ExportFormat::kHf;
        export_checkpoint(raw, source.path(), plan, {}, stock, target.path("stock"));
      });
      export_checkpoint(raw, source.path(), plan, {}, per_layer_options(), out);
      const Json config = parse_json(read_file(out + "/config.json"), "config.json");
      CHECK(config.at("per_layer_num_experts") == Json{2, 3});
      CHECK(config.at("num_experts_per_layer") == Json{2, 3});
      CHECK(config.at("original_num_experts") == 3);
      CHECK(config.at(family_row(raw.config.family).experts_key) == 3);

      const RawModel again = load_checkpoint(out);
      CHECK(again.config.experts_per_layer == std::vector<int64_t>{2, 3});
      CHECK(again.layers[0].experts.size() == 2);
      REQUIRE(again.plan);
      CHECK(logits_of(again, *again.plan) == logits_of(raw, plan));
      std::optional<RawModel> model;
      for (const Check& check : verify_directory(out, model)) {
        CHECK_MESSAGE(check.passed, check.name << ": " << check.detail);
      }
      for (const Check& check : verify_against(out, *model, source.path(), raw, plan, Device{}, {})) {
        CHECK_MESSAGE(check.passed, check.name << ": " << check.detail);
      }
      check_error(ExitCode::kData, "already is the result of a plan", [&] {
        export_checkpoint(again, out, *again.plan, {}, per_layer_options(), target.path("twice"));
      });
    }
  }
}

TEST_CASE("layer counts: layers that all keep the same make an ordinary checkpoint that also says so") {
  const Scratch source, target;
  TinyCheckpoint("qwen3_moe").write(source);
  const RawModel raw = load_checkpoint(source.path());
  ExpertPlan plan;
  plan.top_k = 2;
  plan.groups = {one_hot_group({0}, {0, 2}, 3), one_hot_group({1}, {1, 2}, 3)};
  export_checkpoint(raw, source.path(), plan, {}, per_layer_options(), target.path("out"));
  const RawModel again = load_checkpoint(target.path("out"));
  CHECK(again.config.num_experts == 2);
  CHECK(again.config.experts_per_layer.empty());
  CHECK(!again.plan);
  std::optional<RawModel> model;
  verify_directory(target.path("out"), model);
  for (const Check& check :
       verify_against(target.path("out"), *model, source.path(), raw, plan, Device{}, {})) {
    CHECK_MESSAGE(check.passed, check.name << ": " << check.detail);
  }
}

TEST_CASE("layer counts: fewer experts than active ones, and lists that do not fit, are refused") {
  const Scratch source, target;
  TinyCheckpoint checkpoint("qwen3_moe");
  checkpoint.write(source);
  const RawModel raw = load_checkpoint(source.path());
  ExpertPlan plan = uneven_plan();
  plan.groups[0] = one_hot_group({0}, {1}, 3);
  check_error(ExitCode::kData, "layer 0 keeps 1 experts, fewer than the 2 active ones", [&] {
    export_checkpoint(raw, source.path(), plan, {}, per_layer_options(), target.path("out"));
  });
  const auto refused = [&](const char* key, const Json& value, const std::string& what) {
    TinyCheckpoint other("qwen3_moe");
    other.config["per_layer_num_experts"] = {3, 3};
    other.config[key] = value;
    const Scratch directory;
    other.write(directory);
    check_error(ExitCode::kData, what, [&] { read_config(directory.path()); });
  };
  refused("per_layer_num_experts", {3}, "wrong length (expected 2");
  refused("per_layer_num_experts", {3, 1}, "an integer from 2");
  refused("per_layer_num_experts", 3, "an array");
  refused("num_experts_per_layer", {3, 2}, "differs from per_layer_num_experts");
}

TEST_CASE("layer counts: the text of config.json keeps its form") {
  const std::vector<uint8_t> sparse{1, 0, 1};
  CHECK(with_layer_counts("{\n  \"num_experts\": 8,\n  \"num_experts_per_tok\": 2\n}\n", sparse, {4, 8, 6}, 8,
                          2) ==
        "{\n  \"num_experts\": 8,\n  \"num_experts_per_tok\": 2,\n  \"per_layer_num_experts\": [4, 8, 6],\n"
        "  \"num_experts_per_layer\": [4, 8, 6],\n  \"original_num_experts\": 8\n}\n");
  CHECK(with_layer_counts("{\"num_experts\": 8, \"per_layer_num_experts\": [8, [], \"]\"], \"a\": 1}", sparse,
                          {4, 8, 4}, 8, 2) ==
        "{\"num_experts\": 4, \"per_layer_num_experts\": [4, 8, 4], \"a\": 1, \"num_experts_per_layer\": [4, "
        "8, 4], "
        "\"original_num_experts\": 8}");
}

}  // namespace eep
