// Plans as data: groups of layers, one-hot rows, and every way in which a plan can be broken.
#include <doctest/doctest.h>

#include <cmath>

#include "engine/expert_plan.h"
#include "kernels/common/error.h"

using namespace eep;

namespace {

const std::vector<uint8_t> kSparse{1, 0, 1, 1};

ExpertPlan good_plan() {
  ExpertPlan plan;
  plan.top_k = 2;
  plan.groups.push_back(one_hot_group({0, 2}, {3, 1}, 4));
  plan.groups.push_back(one_hot_group({3}, {0}, 4));
  return plan;
}

std::string refusal(const ExpertPlan& plan) {
  try {
    check_plan(plan, kSparse, 4, "plan.json");
  } catch (const Error& error) {
    CHECK(error.code() == ExitCode::kData);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("plan: groups split by depth, the last takes the rest") {
  const std::vector<uint8_t> all(10, 1);
  const auto split = split_layers(all, 4);
  CHECK(split[0] == std::vector<int32_t>{0, 1});
  CHECK(split[3] == std::vector<int32_t>{6, 7, 8, 9});
  CHECK(split_layers(kSparse, 3)[1] == std::vector<int32_t>{2});
  CHECK_THROWS_AS(split_layers(kSparse, 4), Error);
  CHECK_THROWS_AS(split_layers(kSparse, 0), Error);
}

TEST_CASE("plan: one-hot rows are recognised, and nothing else") {
  CHECK(one_hot_rows({0, 1, 0, 1, 0, 0}, 2, 3) == std::vector<int32_t>{1, 0});
  CHECK(one_hot_rows({0, 1, 0, 1, 0.5f, 0}, 2, 3).empty());
  CHECK(one_hot_rows({0, 2, 0}, 1, 3).empty());
  CHECK(one_hot_rows({0, 0, 0}, 1, 3).empty());
  CHECK(one_hot_rows({-1, 0, 0}, 1, 3).empty());
}

TEST_CASE("plan: what is broken is named") {
  CHECK(refusal(good_plan()) == "");
  ExpertPlan plan = good_plan();
  plan.groups[1].layers = {2};
  CHECK(refusal(plan) == "plan.json: groups[1].layers: layer 2 is already in groups[0]");
  plan = good_plan();
  plan.groups[1].layers = {};
  CHECK(refusal(plan) == "plan.json: layer 3 is in no group");
  plan = good_plan();
  plan.groups[0].layers = {0, 1};
  CHECK(refusal(plan) == "plan.json: groups[0].layers: layer 1 has no experts");
  plan = good_plan();
  plan.groups[0].layers = {0, 7};
  CHECK(refusal(plan) == "plan.json: groups[0].layers: no such layer (expected 0..3, got 7)");
  plan = good_plan();
  plan.groups[0].router_mapping[2] = NAN;
  CHECK(refusal(plan) == "plan.json: groups[0].router_mapping: an entry is not finite");
  plan = good_plan();
  plan.groups[0].expert_merging.pop_back();
  CHECK(refusal(plan) == "plan.json: groups[0].expert_merging: wrong number of entries (expected 8, got 7)");
  plan = good_plan();
  plan.groups[0].kept = 5;
  CHECK(refusal(plan) == "plan.json: groups[0]: kept experts out of range (expected 1..4, got 5)");
  plan = good_plan();
  plan.groups[0].experts = 8;
  CHECK(refusal(plan) == "plan.json: groups[0]: wrong number of original experts (expected 4, got 8)");
  plan = good_plan();
  plan.top_k = 0;
  CHECK(refusal(plan) == "plan.json: top_k out of range (expected 1..32, got 0)");
}
