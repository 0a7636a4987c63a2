// Plan files: what is written comes back to the bit, and every way of being wrong.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include "loaders/models/plan_io.h"
#include "tests/loaders/scratch.h"

namespace eep {
namespace {

const std::string kGood = R"({"format": "eep-plan", "version": 1,
 "model": {"family": "mixtral", "layers": 3, "experts": 3, "hash": "xxh3:00112233445566778899aabbccddeeff"},
 "top_k": 2, "router_space": "probabilities",
 "groups": [
  {"layers": [0, 2], "router_mapping": [[1, 0, 0], [0, 0, 1]], "expert_merging": [[0.75, 0.25, 0], [0, -0.5, 1.5]]},
  {"layers": [1], "router_mapping": [[0, 1, 0]], "expert_merging": [[0, 1, 0]]}],
 "provenance": {"method": "hand"}})";

void refuse(const std::string& from, const std::string& to, const std::string& part) {
  std::string text = kGood;
  const size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
  INFO(text);
  check_error(ExitCode::kData, part, [&] { parse_plan(text, "p.json"); });
}

ModelConfig small_config() {
  ModelConfig config;
  config.num_layers = 3;
  config.num_experts = 3;
  config.sparse = {1, 1, 1};
  return config;
}

bool same_bits(const ExpertPlan& a, const ExpertPlan& b) {
  if (!(a == b)) return false;
  for (size_t i = 0; i < a.groups.size(); ++i) {
    const auto& x = a.groups[i].expert_merging;
    if (std::memcmp(x.data(), b.groups[i].expert_merging.data(), x.size() * sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("plan: a file is read as it says") {
  PlanInfo info;
  const ExpertPlan plan = parse_plan(kGood, "p.json", &info);
  CHECK(info.family == "mixtral");
  CHECK(info.layers == 3);
  CHECK(info.experts == 3);
  CHECK(info.hash == "xxh3:00112233445566778899aabbccddeeff");
  CHECK(info.provenance["method"] == "hand");
  CHECK(plan.top_k == 2);
  CHECK(plan.router_space == RouterSpace::kProbabilities);
  REQUIRE(plan.groups.size() == 2);
  CHECK(plan.groups[0].layers == std::vector<int32_t>{0, 2});
  CHECK(plan.groups[0].kept == 2);
  CHECK(plan.groups[0].experts == 3);
  CHECK(plan.groups[0].expert_merging == std::vector<float>{0.75f, 0.25f, 0, 0, -0.5f, 1.5f});
  CHECK(plan.groups[1].kept == 1);
}

TEST_CASE("plan: coefficients come back to the bit") {
  std::mt19937 random(3);
  ExpertPlan plan;
  plan.top_k = 2;
  for (int32_t layer = 0; layer < 40; ++layer) {
    PlanGroup group = one_hot_group({layer}, {1, 4, 7}, 8);
    for (float& value : group.expert_merging) {
      do {
        value = std::bit_cast<float>(static_cast<uint32_t>(random()));
      } while (!std::isfinite(value));
    }
    group.expert_merging[0] = -0.0f;
    group.expert_merging[1] = std::bit_cast<float>(1u);  // the smallest subnormal
    group.expert_merging[2] = 3.4028235e38f;
    group.expert_merging[3] = 16777216.0f;
    plan.groups.push_back(std::move(group));
  }
  ModelConfig config;
  config.num_layers = 40;
  config.num_experts = 8;
  const Scratch scratch;
  PlanInfo info;
  const Json provenance = {{"method", "test \xc3\xa9"}, {"seed", 3}};
  write_plan(scratch.path("plan.json"), plan, plan_info(config, "xxh3:" + std::string(32, 'a'), provenance));
  CHECK(same_bits(read_plan(scratch.path("plan.json"), &info), plan));
  CHECK(info.family == "mixtral");
  CHECK(info.hash == "xxh3:" + std::string(32, 'a'));
  CHECK(info.provenance == provenance);
  CHECK(same_bits(parse_plan(format_plan(plan, {}), "p"), plan));
}

TEST_CASE("plan: thresholds of skipping are optional, one a layer, and come back to the bit") {
  PlanInfo info;
  ExpertPlan plan = parse_plan(kGood, "p.json", &info);
  CHECK_FALSE(skips_experts(plan));
  CHECK(format_plan(plan, info).find("skip_below") == std::string::npos);
  plan.groups[0].skip_below = {0.1f, 0.37254903f};
  CHECK(skips_experts(plan));
  CHECK(parse_plan(format_plan(plan, info), "p.json") == plan);
  CHECK_NOTHROW(check_plan(plan, small_config().sparse, 3, "p.json"));
  plan.groups[0].skip_below.pop_back();
  check_error(ExitCode::kData, "groups[0].skip_below: wrong number of entries (expected 2, got 1)",
              [&] { check_plan(plan, small_config().sparse, 3, "p.json"); });
  plan.groups[0].skip_below = {0.5f, 1.5f};
  check_error(ExitCode::kData, "groups[0].skip_below: out of range (expected 0..1, got 1.5",
              [&] { check_plan(plan, small_config().sparse, 3, "p.json"); });
  const std::string with = "\"layers\": [0, 2], \"skip_below\": ";
  refuse("\"layers\": [0, 2],", with + "[0.5],",
         "skip_below: wrong number of thresholds (expected one a layer, 2, got 1)");
  refuse("\"layers\": [0, 2],", with + "[0.5, 2],",
         "groups[0].skip_below[1]: wrong value (expected a number from 0 to 1, got 2)");
  refuse("\"layers\": [0, 2],", with + "0.5,", "groups[0].skip_below");
}

TEST_CASE("plan: what is wrong is named with its place") {
  refuse("\"eep-plan\"", "\"other\"",
         "p.json:1:12: format: wrong value (expected \"eep-plan\", got \"other\")");
  refuse("\"version\": 1", "\"version\": 2", "version: wrong value (expected 1, got 2)");
  refuse("\"version\": 1,", "", "missing key \"version\"");
  refuse("\"top_k\": 2", "\"top_k\": 0", "top_k: wrong value (expected an integer from 1 to 32, got 0)");
  refuse("\"top_k\": 2,", "", "missing key \"top_k\"");
  refuse("\"probabilities\"", "\"odds\"",
         "router_space: wrong value (expected \"probabilities\" or \"logits\"");
  refuse("\"provenance\"", "\"provenence\"", "provenence: unknown key");
  refuse("\"layers\": [0, 2],", "\"layers\": [0, 2], \"x\": 1,", "groups[0].x: unknown key");
  refuse("[0, 2]", "[0, 1]", "p.json:6:15: groups[1].layers[0]: layer 1 is named twice");
  refuse("[0, 2]", "[0, 0]", "groups[0].layers[1]: layer 0 is named twice");
  refuse("[0, 2]", "[0, 3]", "groups[0].layers[1]: wrong value (expected an integer from 0 to 2, got 3)");
  refuse("[0, 2]", "[0, -1]", "groups[0].layers[1]: wrong value");
  refuse("[0, 2]", "[]", "groups[0].layers: wrong value (expected at least one layer");
  refuse("[0, 0, 1]]", "[0, 0]]",
         "groups[0].router_mapping[1]: wrong length of a row (expected 3 experts, got 2)");
  refuse("[0, 0, 1]]", "[0, 0, 1], [0, 1, 0]]",
         "groups[0].expert_merging: wrong value (expected as many rows");
  refuse("[[0, 1, 0]]", "[]", "groups[1].router_mapping: wrong value (expected at least one kept expert");
  refuse("[0, 0, 1]]", "[0, 0, 1], [1, 0, 0], [1, 0, 0]]",
         "more kept experts than experts (expected at most 3, got 4)");
  refuse("-0.5", "null",
         "groups[0].expert_merging[1][1]: wrong value (expected a number that a float can hold, got null)");
  refuse("-0.5", "1e39", "expected a number that a float can hold");
  refuse("-0.5", "NaN", "malformed JSON");
  refuse("-0.5", "\"1\"", "expected a number that a float can hold");
  refuse("xxh3:00", "xxh3:0g", "model.hash: wrong value");
  refuse("\"experts\": 3", "\"experts\": 4", "wrong length of a row (expected 4 experts, got 3)");
  refuse("\"layers\": 3", "\"layers\": 1000000000", "model.layers: wrong value");
  refuse("\"groups\": [", "\"groups\": [], \"g\": [", "unknown key");
  for (size_t length = 0; length < kGood.size(); ++length) {
    CHECK_THROWS_AS(parse_plan(kGood.substr(0, length), "p"), Error);
  }
}

TEST_CASE("plan: a plan of another model is refused") {
  PlanInfo info;
  const ExpertPlan plan = parse_plan(kGood, "p.json", &info);
  const auto hash = [] { return std::string("xxh3:00112233445566778899aabbccddeeff"); };
  const auto refuse_model = [&](const ModelConfig& config, const PlanInfo& stated, const std::string& part) {
    check_error(ExitCode::kData, part, [&] { check_plan_model(plan, stated, config, hash, "p.json"); });
  };
  ModelConfig config = small_config();
  CHECK_NOTHROW(check_plan_model(plan, info, config, hash, "p.json"));
  config.family = Family::kQwen2Moe;
  refuse_model(config, info, "p.json: made for another model: family (expected qwen2_moe, got mixtral)");
  config = small_config();
  config.num_layers = 4;
  refuse_model(config, info, "layers (expected 4, got 3)");
  config.sparse.push_back(1);
  refuse_model(config, {}, "layer 3 is in no group");
  config = small_config();
  config.sparse[1] = 0;
  refuse_model(config, info, "layer 1 has no experts");
  config = small_config();
  config.num_experts = 4;
  refuse_model(config, {}, "wrong number of original experts (expected 4, got 3)");
  PlanInfo other = info;
  other.hash = "xxh3:" + std::string(32, '0');
  refuse_model(small_config(), other, "hash (expected xxh3:0011");
  bool asked = false;
  other.hash.clear();
  check_plan_model(
      plan, other, small_config(), [&] { return asked = true, std::string(); }, "p.json");
  CHECK_FALSE(asked);
}

}  // namespace eep
