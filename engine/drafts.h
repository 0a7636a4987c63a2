// Drafts: what a generated sequence may go on with, guessed from finished outputs of the same item: of the
// full model, of a parent, of candidates decoded before. A guess costs rows of a step and saves steps where
// it is right (generator.cpp); no result depends on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace eep {

class Drafts {
 public:
  bool knows(int64_t item) const { return outputs_.count(item) != 0; }
  // A finished output of an item. The last few that differ are kept.
  void add(int64_t item, std::span<const int32_t> output);
  // Tokens that may follow `made`: of the newest output that begins with it; else of one that holds its last
  // tokens, the more of them the better, the nearest to the same place first; else none. Valid until the next
  // add().
  std::span<const int32_t> after(int64_t item, std::span<const int32_t> made) const;

 private:
  static constexpr size_t kKept = 8;
  std::unordered_map<int64_t, std::vector<std::vector<int32_t>>> outputs_;  // newest first
};

}  // namespace eep
