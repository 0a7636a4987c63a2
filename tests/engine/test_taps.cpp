// Taps: two backends side by side, layer by layer, and the first place where they part. Ops that fail are
// named with their layer.
#include <doctest/doctest.h>

#include <cmath>
#include <functional>

#include "engine/forward.h"
#include "kernels/common/error.h"
#include "tests/engine/reference_model.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

std::vector<Tap> taps_of(const SyntheticModel& model, const Ops& ops, const ExpertPlan& plan,
                         const std::vector<int32_t>& tokens) {
  const Weights weights(model.raw, ops);
  PopulationForward forward(weights, 0);
  Taps taps{Backend(ops)};
  forward.logits(plan, tokens, &taps);
  return taps.list();
}

std::string failure_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("taps: every layer of the GPU's row is as near to the CPU's as its rounding allows") {
  int compared = 0;
  for (const Family family : kFamilies) {
    for (DType dtype : {DType::kBF16, DType::kF16, DType::kF32}) {
      CAPTURE(std::string(family_name(family)));
      CAPTURE(std::string(dtype_name(dtype)));
      ModelConfig config = tiny_config(family);
      config.dtype = dtype;
      const SyntheticModel model(config, 11);
      const std::vector<int32_t> tokens = random_tokens(config, 7, 3);
      const ExpertPlan plan = random_plan(config, 3, 2, RouterSpace::kLogits, true, 102);
      ReferenceModel reference(model.raw, plan);
      reference.logits(tokens);
      // where two experts are nearly equal, either may come, or come first
      if (reference.smallest_gap < 0.02) continue;
      const double unit = dtype == DType::kF16 ? 0x1p-12 : 0x1p-9;
      const auto differences =
          compare_taps(taps_of(model, simt_ops(), plan, tokens), taps_of(model, cpu_ops(), plan, tokens),
                       dtype == DType::kF32 ? 2 * unit : unit);
      CHECK(differences.front().name == "embedding");
      CHECK(differences.back().name == "logits");
      for (const TapDifference& difference : differences) {
        CAPTURE(difference.name);
        CAPTURE(difference.relative);
        CAPTURE(difference.bound);
        CHECK(difference.within);
      }
      ++compared;
    }
  }
  MESSAGE(compared << " models compared");
  CHECK(compared >= 4);
}

TEST_CASE("taps: one run is itself; a change is found where it is; runs of different models are refused") {
  const ModelConfig config = tiny_config(Family::kQwen2Moe);
  const SyntheticModel model(config, 12);
  const ExpertPlan plan = identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                                        static_cast<int32_t>(config.top_k));
  const std::vector<int32_t> tokens = random_tokens(config, 70, 3);  // logits come in two parts
  const std::vector<Tap> taps = taps_of(model, cpu_ops(), plan, tokens);
  CHECK(taps.back().rows == 70);
  for (const TapDifference& difference : compare_taps(taps, taps_of(model, cpu_ops(), plan, tokens), 0)) {
    CHECK(difference.within);
    CHECK(difference.relative == 0);
  }
  for (const char* name : {"layer.0.router.expert", "layer.1.dense.residual", "final.norm"}) {
    CAPTURE(name);
    std::vector<Tap> changed = taps;
    for (Tap& tap : changed) {
      if (tap.name == name) tap.values[3] += 40;
    }
    std::string found;
    for (const TapDifference& difference : compare_taps(changed, taps, 0x1p-9)) {
      if (!difference.within && found.empty()) found = difference.name;
    }
    CHECK(found == name);
  }
  std::vector<Tap> broken = taps;
  broken[4].values[0] = NAN;
  CHECK(!compare_taps(broken, taps, 1)[4].within);
  broken = taps;
  broken[2].rows = 69;
  CHECK(failure_of([&] { compare_taps(broken, taps, 0); }).find(broken[2].name) == 0);
  broken.pop_back();
  broken[2].rows = 70;
  CHECK(failure_of([&] { compare_taps(broken, taps, 0); }).find("expected logits, got no more") !=
        std::string::npos);
}

TEST_CASE("errors: an op that fails is named with its layer, memory that is not there with its size") {
  const ModelConfig config = tiny_config(Family::kMixtral);
  const SyntheticModel model(config, 13);
  const ExpertPlan plan = identity_plan(config.sparse, static_cast<int32_t>(config.num_experts),
                                        static_cast<int32_t>(config.top_k));
  static int calls;
  Ops ops = simt_ops();
  ops.attention = [](const AttentionArgs& args, const Device& device) {
    if (++calls == 2) throw Error(ExitCode::kRuntime, "attention", "CUDA says \"a fault\" (runs 1)");
    simt_ops().attention(args, device);
  };
  const Weights weights(model.raw, ops);
  PopulationForward forward(weights, 0);
  const std::vector<int32_t> tokens = random_tokens(config, 5, 3);
  calls = 0;
  CHECK(failure_of([&] { forward.logits(plan, tokens); }) ==
        "layer 1: attention: CUDA says \"a fault\" (runs 1)");
  calls = 0;
  const std::vector<std::vector<std::vector<int32_t>>> prompts = {{tokens}};
  CHECK(failure_of([&] { forward.generate(std::span(&plan, 1), prompts, {}, nullptr); }) ==
        "layer 1: attention: CUDA says \"a fault\" (runs 1)");
  CHECK(forward.logits(plan, tokens).size() == 5 * static_cast<size_t>(config.vocab_size));  // usable again

  ops.allocate = [](size_t bytes, const Device&) -> void* {
    throw Error(ExitCode::kRuntime, "device memory",
                "out of memory (expected " + std::to_string(bytes) + " more)");
  };
  PopulationForward poor(weights, 0);
  CHECK(failure_of([&] { poor.logits(plan, tokens); }).find("device memory: out of memory (expected") == 0);
}
