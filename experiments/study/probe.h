// Probes of generation: short prompts continued greedily. A model whose scores are fine may still loop; the
// share of distinct 4-grams in what it writes shows it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "loaders/formats/json.h"

namespace eep {

inline constexpr double kLoopBelow = 0.55;  // distinct-4 of a text that loops

struct ProbeFigures {
  int64_t tokens = 0;               // generated, without the end of sequence
  std::optional<double> distinct4;  // different 4-grams of tokens / all of them; none below four tokens
  bool lost = false;                // ended by logits that are no numbers: no figure of it counts
  bool loops() const { return distinct4 && *distinct4 < kLoopBelow; }
};

// A model's figures, one a prompt.
struct ProbeColumn {
  std::string name;
  std::vector<ProbeFigures> figures;
};

// One prompt a line: text, a JSON string, or an object with "prompt" or "text". Throws Error(kNoInput), and
// Error(kData) for a broken line or a file without prompts.
std::vector<std::string> read_probes(const std::string& path);

// ends: end-of-sequence ids.
ProbeFigures probe_figures(std::span<const int32_t> generated, std::span<const int32_t> ends);

// {"probes": n, "models": [{name, loops, loop_rate, distinct4, each: [{tokens, distinct4, loops}]}]}; null
// where logits were no numbers.
Json probe_json(const std::vector<ProbeColumn>& columns);
std::string probe_table(const std::vector<ProbeColumn>& columns);

}  // namespace eep
