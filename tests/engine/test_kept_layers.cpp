// Layers that are kept between calls: the bits of a pass that computes everything, less work, and never more
// memory than was allowed.
#include <doctest/doctest.h>

#include <cstring>
#include <numeric>

#include "engine/forward.h"
#include "engine/kept_layers.h"
#include "kernels/common/error.h"
#include "kernels/common/philox.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

Prompts prompts_of(const ModelConfig& config) {
  PromptBuilder builder;
  const std::vector<int32_t> stem = random_tokens(config, 9, 7);
  for (uint32_t i = 0; i < 8; ++i) {
    std::vector<int32_t> tokens(stem.begin(), stem.begin() + 4 + static_cast<int64_t>(i % 3));
    for (const int32_t token : random_tokens(config, 2 + i % 3, 50 + i)) tokens.push_back(token);
    builder.add(tokens, static_cast<int32_t>(tokens.size()) - 2, i % 2 == 0);
  }
  return builder.build(nullptr);
}

// Generations in which a child takes each layer's group from one of two parents, or a fresh one.
std::vector<std::vector<ExpertPlan>> generations_of(const ModelConfig& config, int count, size_t size) {
  std::vector<std::vector<ExpertPlan>> generations(1);
  uint32_t seed = 1;
  const auto fresh = [&] {
    ++seed;
    const auto groups = static_cast<int32_t>(config.sparse_layers());
    return random_plan(config, 3, groups, RouterSpace::kLogits, seed % 2 == 0, 100 + seed);
  };
  while (generations[0].size() < size) generations[0].push_back(fresh());
  while (static_cast<int>(generations.size()) < count) {
    const std::vector<ExpertPlan>& parents = generations.back();
    std::vector<ExpertPlan> children;
    while (children.size() < size) {
      const auto draw = philox({seed++, 0, 0, 0}, 5);
      ExpertPlan child = parents[draw[0] % size];
      const ExpertPlan other = draw[1] % 3 == 0 ? fresh() : parents[draw[2] % size];
      for (size_t group = draw[3] % child.groups.size(); group < child.groups.size(); ++group)
        child.groups[group] = other.groups[group];
      children.push_back(std::move(child));
    }
    generations.push_back(std::move(children));
  }
  return generations;
}

bool same_bits(const std::vector<TokenScore>& a, const std::vector<TokenScore>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(TokenScore)) == 0;
}

}  // namespace

TEST_CASE("kept layers: the bits of computing everything, on every backend, and less work") {
  for (const Ops* ops : {&cpu_ops(), &simt_ops()}) {
    const bool slow = ops == &simt_ops();  // one family, with all and with no room
    for (const Family family : kFamilies) {
      if (slow && family != Family::kMixtral) continue;
      CAPTURE(ops->name);
      CAPTURE(family_name(family));
      ModelConfig config = tiny_config(family);
      config.dtype = DType::kBF16;
      const SyntheticModel model(config, 5);
      const Weights weights(model.raw, *ops);
      const Prompts prompts = prompts_of(config);
      const auto generations = generations_of(config, 3, 4);

      PopulationForward plain(weights, 0);
      std::vector<std::vector<std::vector<TokenScore>>> expected;
      for (const auto& plans : generations) expected.push_back(plain.score(plans, prompts));

      // A stream's rows behind a layer are 40 floats each: one stream's, some, all of them.
      const size_t stream = static_cast<size_t>(prompts.rows()) * 40 * sizeof(float);
      for (const size_t limit : {size_t{1}, stream, 3 * stream, size_t{1} << 30}) {
        if (slow && limit > 1 && limit <= 3 * stream) continue;
        CAPTURE(limit);
        PopulationForward kept(weights, 0);
        kept.keep_layers(limit);
        for (size_t i = 0; i < generations.size(); ++i) {
          const auto scores = kept.score(generations[i], prompts);
          for (size_t plan = 0; plan < scores.size(); ++plan)
            CHECK(same_bits(scores[plan], expected[i][plan]));
        }
        const WorkCounts &all = plain.work(), &done = kept.work();
        // Both numbers are token-layers over layers, rounded down a call.
        const auto calls = static_cast<int64_t>(generations.size());
        CHECK(std::abs(done.tokens_computed + done.tokens_kept - all.tokens_computed) <= calls);
        CHECK(done.tokens_kept >= 0);
        if (limit < stream) CHECK(done.tokens_kept == 0);
        if (limit == size_t{1} << 30) CHECK(done.tokens_computed < all.tokens_computed);
      }
    }
  }
}

TEST_CASE("kept layers: in chunks of trees, and candidate by candidate, under a budget") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 6);
  const Weights weights(model.raw, cpu_ops());
  const Prompts prompts = prompts_of(config);
  const auto generations = generations_of(config, 4, 4);
  PopulationForward plain(weights, 0);
  const size_t all = plain.memory_plan(generations[0], prompts).total();
  for (const size_t budget : {all / 2, all, 4 * all}) {
    PopulationForward kept(weights, budget);
    try {
      kept.memory_plan(generations[0], prompts);
    } catch (const Error&) {
      continue;  // half of it is less than the least here
    }
    kept.keep_layers(size_t{1} << 30);
    for (const auto& plans : generations) {
      const auto scores = kept.score(plans, prompts);
      const auto expected = plain.score(plans, prompts);
      for (size_t plan = 0; plan < scores.size(); ++plan) CHECK(same_bits(scores[plan], expected[plan]));
    }
  }
}

TEST_CASE("kept layers: a generation that was computed before costs its last group of layers alone") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 7);
  const Weights weights(model.raw, cpu_ops());
  const Prompts prompts = prompts_of(config);
  const auto plans = generations_of(config, 1, 4)[0];
  PopulationForward forward(weights, 0);
  forward.keep_layers(size_t{1} << 30);
  forward.score(plans, prompts);
  const int64_t first = forward.work().tokens_computed;
  CHECK(forward.work().tokens_kept == 0);
  forward.reset_work();
  forward.score(plans, prompts);
  // two of three layers; the third finishes scored rows alone
  CHECK(forward.work().tokens_kept >= plans.size() * static_cast<size_t>(prompts.rows()) * 2 / 3 - 1);
  CHECK(forward.work().tokens_computed <= first - forward.work().tokens_kept + 1);
  forward.keep_layers(0);
  forward.reset_work();
  forward.score(plans, prompts);
  CHECK(forward.work().tokens_computed == first);
}

TEST_CASE("kept layers: what the latest passes used stays, of one pass the deepest") {
  const Device device;
  KeptLayers kept(Backend(cpu_ops(), device));
  std::vector<float> rows(16);
  std::iota(rows.begin(), rows.end(), 1.0f);
  const size_t bytes = rows.size() * sizeof(float);
  const auto key = [](uint64_t number) { return KeptLayers::Key{{1, 2}, {number, 0}}; };
  kept.begin_pass(3 * bytes);
  kept.keep(key(0), 0, rows.data(), bytes);
  kept.keep(key(1), 1, rows.data(), bytes);
  kept.keep(key(2), 0, rows.data(), bytes);
  CHECK(kept.bytes() == 3 * bytes);
  kept.begin_pass(3 * bytes);
  const KeptLayers::Rows used = kept.find(key(0));
  REQUIRE(used != nullptr);
  CHECK(std::memcmp(used->data(), rows.data(), bytes) == 0);
  rows[0] = -1;
  kept.keep(key(3), 0, rows.data(), bytes);  // in place of the second pass's least: the shallower of 1 and 2
  CHECK(kept.find(key(2)) == nullptr);
  CHECK(kept.find(key(1)) != nullptr);
  CHECK(kept.find(key(3)) != nullptr);
  CHECK(kept.bytes() == 3 * bytes);
  kept.keep(key(4), 0, rows.data(), 4 * bytes);  // more than there may be: nothing is given up for it
  CHECK(kept.bytes() == 3 * bytes);
  kept.begin_pass(bytes);
  CHECK(kept.bytes() == bytes);
  CHECK(used->as<float>()[0] == 1.0f);  // who holds rows keeps them
}
