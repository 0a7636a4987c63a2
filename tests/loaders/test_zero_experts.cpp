// Experts and gate rows of zeros: found in every layout, of either sign, and only where all of a matrix is
// zero.
#include <doctest/doctest.h>

#include "loaders/models/checkpoint.h"
#include "loaders/models/zero_experts.h"
#include "tests/loaders/tiny_checkpoint.h"

namespace eep {

TEST_CASE("zero experts: a matrix of zeros, a gate row of zeros, and nothing else") {
  TinyCheckpoint checkpoint("qwen3_moe", TinyLayout::kPerExpert, DType::kBF16);
  const std::string mlp = "model.layers.1.mlp.";
  std::string& down = checkpoint.tensors.at(mlp + "experts.2.down_proj.weight").bytes;
  down.assign(down.size(), '\0');
  down[1] = '\x80';  // minus zero
  std::string& up = checkpoint.tensors.at("model.layers.0.mlp.experts.1.up_proj.weight").bytes;
  up.assign(up.size(), '\0');
  up[up.size() - 1] = 1;  // not quite
  std::string& gate = checkpoint.tensors.at(mlp + "gate.weight").bytes;
  std::fill(gate.begin() + 12, gate.begin() + 24, '\0');  // row 1 of six columns
  const Scratch scratch;
  const std::vector<ZeroExperts> zeros = zero_experts(load_checkpoint(checkpoint.write(scratch)));
  REQUIRE(zeros.size() == 1);
  CHECK(zeros[0].layer == 1);
  CHECK(zeros[0].experts == std::vector<int32_t>{2});
  CHECK(zeros[0].gate_rows == std::vector<int32_t>{1});
  CHECK(zero_experts_line(zeros[0]) ==
        "layer 1: experts 2 put out zero whatever comes in; gate rows 1 are zero");
  LayerStatistics statistics;
  statistics[ExpertSum::kCount] = {5, 6, 7};
  CHECK(zero_experts_line(zeros[0], &statistics) ==
        "layer 1: experts 2 put out zero whatever comes in and were chosen 7 times; gate rows 1 are zero");
  const Scratch clean;
  CHECK(zero_experts(load_checkpoint(TinyCheckpoint("mixtral", TinyLayout::kFused).write(clean))).empty());
}

TEST_CASE("zero experts: with biases and a limit only what truly puts out zero") {
  const auto zeros_of = [](const std::vector<std::string>& names, size_t expert) {
    TinyCheckpoint checkpoint("gpt_oss");
    for (const std::string& name : names) {
      std::string& bytes = checkpoint.tensors.at("model.layers.1.mlp.experts." + name).bytes;
      const size_t one = bytes.size() / 3;
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(expert * one), one, '\0');
    }
    const Scratch scratch;
    const std::vector<ZeroExperts> zeros = zero_experts(load_checkpoint(checkpoint.write(scratch)));
    return zeros.empty() ? std::vector<int32_t>{} : zeros[0].experts;
  };
  CHECK(zeros_of({"down_proj"}, 1).empty());                       // its bias comes out
  CHECK(zeros_of({"gate_up_proj", "down_proj_bias"}, 1).empty());  // gate's bias, times one
  CHECK(zeros_of({"down_proj", "down_proj_bias"}, 1) == std::vector<int32_t>{1});
  CHECK(zeros_of({"gate_up_proj", "gate_up_proj_bias", "down_proj_bias"}, 2) == std::vector<int32_t>{2});
}

}  // namespace eep
