// A calibration that several processes make in parts: the bits of one, whoever has which part.
#include <doctest/doctest.h>

#include <map>

#include "engine/calibration.h"
#include "engine/prompt_texts.h"
#include "kernels/common/error.h"
#include "tests/engine/same_statistics.h"
#include "tests/engine/synthetic.h"

using namespace eep;
using namespace eep::test;

namespace {

using Sums = std::map<int32_t, std::string>;  // by layer

// Hands the sums of one part to the next, which may be another process's.
class MapRelay : public SumsRelay {
 public:
  MapRelay(const Sums& before, Sums& after) : before_(before), after_(after) {}
  std::string take(int32_t layer) override {
    const auto found = before_.find(layer);
    return found == before_.end() ? "" : found->second;
  }
  void give(int32_t layer, const std::function<std::string()>& bytes) override {
    CHECK(after_.emplace(layer, bytes()).second);  // once a part
  }

 private:
  const Sums& before_;
  Sums& after_;
};

}  // namespace

TEST_CASE("calibration: parts that go to processes in turn add up to the bits of one pass") {
  for (const Family family : kFamilies) {
    const ModelConfig config = tiny_config(family);
    const SyntheticModel model(config, 31);
    const Weights weights(model.raw, cpu_ops());
    std::vector<std::vector<int32_t>> sequences;
    for (uint32_t i = 0; i < 11; ++i) sequences.push_back(random_tokens(config, 5 + i, 200 + i));
    const Prompts text = side_by_side(sequences);
    std::vector<int64_t> ends;  // a part of one sequence, one of two, one of three, ...
    for (size_t at = 0, count = 1; at < text.nodes.size(); at += count++) {
      const size_t last = std::min(at + count, text.nodes.size());
      ends.push_back(last == text.nodes.size() ? text.rows() : text.nodes[last].row_begin);
    }
    CalibrationOptions options;
    options.subset_kept = {2, 3};
    options.subset_batch = 16;
    options.subset_tokens = 70;
    options.details = options.every_expert = true;
    const ExpertStatistics expected = calibrate(weights, 0, text, options);
    // Little memory cuts a part into chunks.
    const size_t least = Weights::packed_bytes(config, cpu_ops()) + 400000;
    for (const std::pair<size_t, size_t>& division :
         {std::pair{size_t{1}, size_t{0}}, std::pair{size_t{2}, size_t{0}}, std::pair{size_t{3}, least}}) {
      const size_t processes = division.first, memory = division.second;
      CAPTURE(family_name(family));
      CAPTURE(processes);
      std::vector<std::unique_ptr<CalibrationPass>> passes;
      for (size_t process = 0; process < processes; ++process)
        passes.push_back(std::make_unique<CalibrationPass>(weights, memory, options));
      Sums sums;
      int64_t begin = 0;
      for (size_t part = 0; part < ends.size(); ++part) {
        Sums after;
        MapRelay relay(sums, after);
        passes[part % processes]->run_part(prompts_between(text, begin, ends[part]), relay);
        CHECK(after.size() == static_cast<size_t>(config.sparse_layers()));
        begin = ends[part];
        sums = std::move(after);
      }
      // Half of the sums are refused; all of them take their place.
      CHECK_THROWS_AS(passes[0]->set_sums(0, sums[0].substr(0, sums[0].size() / 2)), Error);
      for (const auto& [layer, bytes] : sums) passes[0]->set_sums(layer, bytes);
      check_same(passes[0]->finish(), expected);
    }
  }
}

TEST_CASE("prompts: rows between two trees are the prompts of those trees") {
  PromptBuilder builder;
  for (const std::vector<int32_t>& tokens :
       {std::vector<int32_t>{1, 2, 3}, {1, 2, 4, 5}, {6, 7}, {8, 9, 8}, {8, 9, 7}})
    builder.add(tokens, 1, true);
  const Prompts all = builder.build(nullptr);
  int64_t second = 0;
  for (const PromptNode& node : all.nodes) {
    if (node.parent < 0 && node.row_begin > 0) {
      second = node.row_begin;
      break;
    }
  }
  const Prompts parts[] = {prompts_between(all, 0, second), prompts_between(all, second, all.rows())};
  const Prompts again = prompts_apart(parts);
  CHECK(again.tokens == all.tokens);
  CHECK(again.positions == all.positions);
  CHECK(again.node_of_row == all.node_of_row);
  REQUIRE(again.nodes.size() == all.nodes.size());
  for (size_t node = 0; node < all.nodes.size(); ++node) {
    CHECK(again.nodes[node].parent == all.nodes[node].parent);
    CHECK(again.nodes[node].row_begin == all.nodes[node].row_begin);
    CHECK(again.nodes[node].row_count == all.nodes[node].row_count);
    CHECK(again.nodes[node].first_position == all.nodes[node].first_position);
  }
  CHECK(prompts_between(all, second, second).rows() == 0);
}
