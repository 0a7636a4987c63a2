// Lists of kept experts: every shape that is read, what is refused and where, and there and back.
#include <doctest/doctest.h>

#include "loaders/models/keep_list.h"
#include "tests/loaders/scratch.h"

using namespace eep;

namespace {

// Four layers of which 1 and 3 have four experts each.
ModelConfig two_of_four() {
  ModelConfig config;
  config.num_layers = 4;
  config.num_experts = 4;
  config.top_k = 2;
  config.sparse = {0, 1, 0, 1};
  return config;
}

ModelConfig two_layers() {
  ModelConfig config = two_of_four();
  config.num_layers = 2;
  config.sparse = {1, 1};
  return config;
}

KeepList read(const std::string& text, int32_t count = 0) {
  return parse_keep_list(text, "kept.json", two_layers(), count);
}

const KeepList kExpected{{0, {1, 3}}, {1, {0, 2}}};

}  // namespace

TEST_CASE("keep list: the shapes that programs write") {
  for (
      const char* text : {
          R"({"0": [1, 3], "1": [0, 2]})",
          R"({"0": [3, 1], "1": [2, 0]})",
          R"({"model.layers.0.mlp": [1, 3], "model.layers.1.mlp": [0, 2]})",
          R"({"model.layers.0.block_sparse_moe.experts": [1, 3], "model.layers.1.block_sparse_moe.experts": [0, 2]})",
          R"({"layer_0": [1, 3], "layer_1": [0, 2]})",
          R"({"blk.0": [1, 3], "blk.1": [0, 2]})",
          R"([[1, 3], [0, 2]])",
          R"({"kept_per_layer": 2, "original_experts": 4, "keep": [[1, 3], [0, 2]]})",
          R"({"original_experts": 4, "num_layers": 2, "keep": {"per_layer": [[1, 3], [0, 2]]}})",
          R"({"model": "some", "layers": {"model.layers.0.mlp": {"kept": [1, 3], "pruned": [0, 2]},
                                           "model.layers.1.mlp": {"kept": [0, 2], "pruned": [1, 3]}}})",
          R"([{"layer": 0, "keep": [1, 3]}, {"layer": 1, "keep": [0, 2]}])",
          R"({"pruned": {"0": [0, 2], "1": [3, 1]}})",
          R"({"pruned_experts": [[0, 2], [1, 3]]})",
          R"({"0": [false, true, false, true], "1": [true, false, true, false]})",
          R"({"prune_mask": [[true, false, true, false], [false, true, false, true]]})",
          "{\"0\": [1, 3]}\n{\"1\": [0, 2]}\n",
          "{\"layer\": 0, \"retained\": [1, 3]}\n\n{\"layer\": 1, \"retained\": [0, 2]}\n",
      }) {
    CAPTURE(text);
    CHECK(read(text) == kExpected);
  }
}

TEST_CASE("keep list: a ranking and a count") {
  const std::string ranked = R"({"0": [3, 1, 0, 2], "1": [2, 0, 3, 1]})";
  CHECK(read(ranked, 2) == kExpected);
  CHECK(read(ranked, 1) == KeepList{{0, {3}}, {1, {2}}});
  CHECK(read("{\"0\": [3, 1, 0, 2]}\n{\"1\": [2, 0, 3, 1]}\n", 2) == kExpected);
  CHECK(read(R"({"0": [1, 3], "1": [0, 2]})", 2) == kExpected);
  check_error(ExitCode::kData, "rankings", [&] { read(ranked); });
  check_error(ExitCode::kData, "kept.json:1:7: 0: wrong number of experts that stay (expected 3",
              [] { read(R"({"0": [1, 3], "1": [0, 2]})", 3); });
  check_error(ExitCode::kData, "wrong number of experts that stay (expected 1",
              [] { read(R"({"pruned": {"0": [0, 2], "1": [3, 1]}})", 1); });
}

TEST_CASE("keep list: layers differ, and dense layers need none") {
  const ModelConfig config = two_of_four();
  const KeepList expected{{1, {1, 3}}, {3, {0, 1, 2}}};
  for (const char* text :
       {R"({"1": [1, 3], "3": [0, 1, 2]})", R"([[1, 3], [0, 1, 2]])", R"([[], [1, 3], null, [0, 1, 2]])"}) {
    CAPTURE(text);
    CHECK(parse_keep_list(text, "kept.json", config) == expected);
  }
  const ExpertPlan plan = keep_list_plan(expected, 4, 2);
  CHECK(plan.groups ==
        std::vector<PlanGroup>{one_hot_group({1}, {1, 3}, 4), one_hot_group({3}, {0, 1, 2}, 4)});
  CHECK(parse_keep_list(format_keep_list(plan), "again.json", config) == expected);
  CHECK(format_keep_list(plan) == "{\n  \"1\": [1, 3],\n  \"3\": [0, 1, 2]\n}\n");
  check_error(ExitCode::kData, "layer 0 of the model has no experts (expected 1, 3)",
              [&] { parse_keep_list(R"({"0": [1], "1": [1], "3": [0]})", "kept.json", config); });
}

TEST_CASE("keep list: what is wrong is said where it stands") {
  const auto refused = [](const std::string& text, const std::string& what) {
    CAPTURE(text);
    check_error(ExitCode::kData, what, [&] { read(text); });
  };
  refused(R"({"0": [1, 3]})", "no list for layer 1");
  refused(R"({"0": [1, 4], "1": [0]})",
          "kept.json:1:11: 0[1]: wrong value (expected an integer from 0 to 3, got 4)");
  refused(R"({"0": [1, 1], "1": [0]})", "expert 1 stands twice");
  refused(R"({"0": [], "1": [0]})", "no expert of the layer stays");
  refused(R"({"0": [1], "1": [0], "7": [0]})", "layer 7 of the model has no experts (expected 0, 1)");
  refused(R"({"0": [1], "model.layers.0": [2], "1": [0]})", "layer 0 is named twice");
  refused(R"({"0": [true, false], "1": [0]})", "wrong length of a mask (expected 4 experts, got 2)");
  refused(R"([[1], [2], [3]])", "wrong number of lists (expected 2");
  refused(R"({"scores": [1.5, 2]})", "no lists of experts");
  refused(R"({"original_experts": 8, "keep": [[1], [2]]})", "original_experts: wrong value (expected 4");
  refused(R"({"format": "eep-plan", "groups": []})", "already a plan");
  refused(R"({"0": [1.5], "1": [0]})", "0[0]: wrong value");
  refused("7", "lists of experts by layer");
  refused("{\"0\": [1]", "malformed JSON");
}

TEST_CASE("keep list: a plan that merges or skips has none") {
  ExpertPlan plan = keep_list_plan(kExpected, 4, 2);
  plan.groups[0].expert_merging[0] = 0.5f;
  check_error(ExitCode::kUsage, "merges experts", [&] { format_keep_list(plan); });
  ExpertPlan skipping = keep_list_plan(kExpected, 4, 2);
  skipping.groups[0].skip_below = {0.5f};
  check_error(ExitCode::kUsage, "skips experts token by token", [&] { format_keep_list(skipping); });
}
