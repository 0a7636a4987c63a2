// Greedy decoding: equal to repeated full passes, for populations, under every memory limit, with stops.
#include <doctest/doctest.h>

#include "engine/drafts.h"
#include "engine/forward.h"
#include "kernels/common/error.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

// The slow way: a full pass over the sequence for every token.
std::vector<int32_t> greedy(PopulationForward& forward, const ExpertPlan& plan, std::vector<int32_t> tokens,
                            int32_t count, const std::vector<int32_t>& eos) {
  std::vector<int32_t> made;
  for (int32_t i = 0; i < count; ++i) {
    PromptBuilder builder;
    builder.add(tokens, static_cast<int32_t>(tokens.size()), true);
    const int32_t next = forward.score(std::span(&plan, 1), builder.build(nullptr))[0].back().argmax;
    made.push_back(next);
    tokens.push_back(next);
    if (std::find(eos.begin(), eos.end(), next) != eos.end()) break;
  }
  return made;
}

}  // namespace

TEST_CASE("generate: equals repeated full passes for every candidate, prompt length and memory limit") {
  for (const Family family : kFamilies) {
    ModelConfig config = tiny_config(family);
    config.eos_token_ids = {3, 17};
    const SyntheticModel model(config, 21);
    const Weights weights(model.raw, cpu_ops());
    std::vector<ExpertPlan> plans;
    for (uint32_t i = 0; i < 4; ++i)
      plans.push_back(random_plan(config, 3, 2, RouterSpace::kLogits, i % 2 == 0, 30 + i));
    std::vector<std::vector<std::vector<int32_t>>> prompts(plans.size());
    for (size_t candidate = 0; candidate < plans.size(); ++candidate) {
      for (uint32_t i = 0; i < 3 + candidate; ++i) {
        prompts[candidate].push_back(random_tokens(config, 1 + 7 * i, 60 + i));
      }
    }
    prompts[3].clear();
    GenerateOptions options;
    options.max_new = 9;
    PopulationForward forward(weights, 0);
    const auto expected = forward.generate(plans, prompts, options, nullptr);
    for (size_t candidate = 0; candidate < plans.size(); ++candidate) {
      REQUIRE(expected[candidate].size() == prompts[candidate].size());
      for (size_t i = 0; i < prompts[candidate].size(); ++i) {
        CAPTURE(family_name(family));
        CAPTURE(candidate);
        CAPTURE(i);
        CHECK(expected[candidate][i] ==
              greedy(forward, plans[candidate], prompts[candidate][i], 9, config.eos_token_ids));
      }
    }
    const size_t floor = Weights::packed_bytes(config, cpu_ops());
    for (size_t extra : {size_t{120000}, size_t{200000}, size_t{600000}}) {
      CAPTURE(extra);
      PopulationForward limited(weights, floor + extra);
      CHECK(limited.generate(plans, prompts, options, nullptr) == expected);
    }
  }
}

TEST_CASE("generate: drafts save steps and change no token, whatever they say") {
  const ModelConfig config = tiny_config(Family::kQwen3Moe);
  const SyntheticModel model(config, 23);
  const Weights weights(model.raw, cpu_ops());
  std::vector<ExpertPlan> plans{identity_plan(config.sparse, 6, 2)};
  plans.push_back(random_plan(config, 4, 2, RouterSpace::kLogits, true, 5));
  plans.push_back(random_plan(config, 3, 2, RouterSpace::kLogits, false, 6));
  const std::vector<std::vector<int32_t>> both{random_tokens(config, 7, 1), random_tokens(config, 3, 2)};
  const std::vector<std::vector<std::vector<int32_t>>> prompts(plans.size(), both);
  GenerateOptions options;
  options.max_new = 40;
  options.ignore_eos = true;
  PopulationForward plain(weights, 0);
  const auto expected = plain.generate(plans, prompts, options, nullptr);
  CHECK(plain.work().decode_steps == 40);
  CHECK(plain.work().drafted == 0);

  // The output itself, wrong from some token on, wrong at once, too long, and no tokens at all.
  const std::vector<int32_t> nonsense(200, 7), outside{-1, 1000};
  for (const int kind : {0, 1, 2, 3, 4}) {
    for (const size_t budget : {size_t{0}, Weights::packed_bytes(config, cpu_ops()) + 250000}) {
      CAPTURE(kind);
      CAPTURE(budget);
      std::vector<int32_t> guess;
      PopulationForward drafted(weights, budget);
      const auto draft = [&](int32_t candidate, int32_t sequence, std::span<const int32_t> made) {
        const auto& output = expected[static_cast<size_t>(candidate)][static_cast<size_t>(sequence)];
        guess.assign(output.begin() + static_cast<int64_t>(made.size()), output.end());
        if (kind == 1 && guess.size() > 3) guess[3] = (guess[3] + 1) % 53;
        if (kind == 2) guess = nonsense;
        if (kind == 3) guess.insert(guess.end(), nonsense.begin(), nonsense.end());
        if (kind == 4) guess = outside;
        return std::span<const int32_t>(guess);
      };
      CHECK(drafted.generate(plans, prompts, options, nullptr, draft) == expected);
      CHECK(drafted.work().accepted <= drafted.work().drafted);
      if (budget != 0) continue;
      if (kind == 0 || kind == 3) CHECK(drafted.work().decode_steps <= 3);
      if (kind == 1) CHECK(drafted.work().decode_steps <= 40 / 3);
      CHECK(drafted.work().decode_steps <= 40);
      if (kind == 4) CHECK(drafted.work().tokens_computed == plain.work().tokens_computed);
    }
  }

  // Whoever stops a sequence sees every token, one after the other, and none beyond.
  std::vector<size_t> seen;
  const auto stop = [&](int32_t, int32_t, std::span<const int32_t> made) {
    seen.push_back(made.size());
    return made.size() == 5;
  };
  const auto whole = [&](int32_t, int32_t, std::span<const int32_t> made) {
    return std::span<const int32_t>(expected[0][0]).subspan(made.size());
  };
  const std::vector<std::vector<std::vector<int32_t>>> one{{both[0]}};
  const auto stopped = plain.generate(std::span(plans.data(), 1), one, options, stop, whole);
  CHECK(stopped[0][0] == std::vector<int32_t>(expected[0][0].begin(), expected[0][0].begin() + 5));
  CHECK(seen == std::vector<size_t>{1, 2, 3, 4, 5});
}

TEST_CASE("drafts: the newest output that begins alike, else the one with the longest tail in common") {
  Drafts drafts;
  const auto after = [&](std::vector<int32_t> made) {
    const auto guess = drafts.after(3, made);
    return std::vector<int32_t>(guess.begin(), guess.end());
  };
  using Tokens = std::vector<int32_t>;
  CHECK(after({}).empty());
  drafts.add(3, Tokens{1, 2, 3, 4, 5});
  drafts.add(3, Tokens{1, 2, 9, 8, 7, 6});
  drafts.add(4, Tokens{30, 31});
  CHECK(after({}) == Tokens{1, 2, 9, 8, 7, 6});
  CHECK(after({1, 2, 3}) == Tokens{4, 5});
  CHECK(after({5, 9, 8}) == Tokens{7, 6});
  CHECK(after({40, 2}) == Tokens{9, 8, 7, 6});
  CHECK(after({30}).empty());  // of another item
  CHECK(after({1, 2, 3, 4, 5}).empty());
  drafts.add(3, Tokens{1, 2, 3, 4, 5});  // the newest again
  CHECK(after({}) == Tokens{1, 2, 3, 4, 5});
  for (int32_t i = 0; i < 20; ++i) drafts.add(3, Tokens{100 + i, 1});
  CHECK(after({1, 2, 3}).size() <= 1);  // old ones go
}

TEST_CASE("generate: stops when told, ignores the end of sequence when told, ends at the last position") {
  ModelConfig config = tiny_config(Family::kMixtral);
  config.max_positions = 20;
  const SyntheticModel model(config, 22);
  const Weights weights(model.raw, cpu_ops());
  PopulationForward forward(weights, 0);
  const std::vector<ExpertPlan> plans{identity_plan(config.sparse, 5, 2)};
  const std::vector<std::vector<std::vector<int32_t>>> prompts{
      {random_tokens(config, 18, 1), random_tokens(config, 4, 2)}};
  GenerateOptions options;
  options.max_new = 30;
  options.ignore_eos = true;
  const auto full = forward.generate(plans, prompts, options, nullptr);
  CHECK(full[0][0].size() == 3);  // positions 18, 19, and the prediction after the last
  CHECK(full[0][1].size() == 17);
  size_t calls = 0;
  const auto stopped = forward.generate(plans, prompts, options,
                                        [&](int32_t, int32_t sequence, std::span<const int32_t> made) {
                                          ++calls;
                                          return sequence == 1 && made.size() == 5;
                                        });
  CHECK(stopped[0][1] == std::vector<int32_t>(full[0][1].begin(), full[0][1].begin() + 5));
  CHECK(stopped[0][0] == full[0][0]);
  CHECK(calls > 0);
  config.eos_token_ids = {full[0][1][2]};
  const SyntheticModel with_eos(config, 22);
  const Weights weights_eos(with_eos.raw, cpu_ops());
  PopulationForward ends(weights_eos, 0);
  options.ignore_eos = false;
  const auto ended = ends.generate(plans, prompts, options, nullptr)[0][1];
  CHECK(ended.back() == config.eos_token_ids[0]);
  CHECK(ended.size() <= 3);
  CHECK_THROWS_AS(
      forward.generate(plans, std::vector<std::vector<std::vector<int32_t>>>{{{}}}, options, nullptr), Error);
}
