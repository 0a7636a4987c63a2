// Prompts: token sequences packed without padding into a trie, and the positions at which scores are wanted.
// A prefix shared by several answers or prompts is stored, and computed, once: a node is a run of tokens that
// attends over its ancestors' keys and values.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace eep {

struct PromptNode {
  int32_t parent = -1;         // node, or -1 for a root
  int32_t first_position = 0;  // position of its first token in the sequence
  int32_t row_begin = 0;       // its tokens are rows row_begin .. row_begin + row_count - 1
  int32_t row_count = 0;
};

// "The token after row `row` is `target`": its log-probability and the arg-max at that row are wanted. target
// -1: the arg-max alone.
struct ScorePosition {
  int32_t row = 0;
  int32_t target = -1;
};

struct Prompts {
  std::vector<int32_t> tokens;         // [rows]
  std::vector<int32_t> positions;      // [rows]
  std::vector<PromptNode> nodes;       // parents before children, rows ascending
  std::vector<int32_t> node_of_row;    // [rows]
  std::vector<ScorePosition> scores;   // ascending rows
  int64_t tokens_without_sharing = 0;  // what the sequences read together

  int64_t rows() const { return static_cast<int64_t>(tokens.size()); }
};

// Sequences one after the other, nothing shared: every token of every one has a row.
Prompts side_by_side(std::span<const std::vector<int32_t>> sequences);

// Sequences in, trie out. `add` returns the sequence's index.
class PromptBuilder {
 public:
  // Scores are wanted for the tokens scored_from .. end of `tokens` (each at the row before it); with
  // `predict_next` also the arg-max after the last token, which else is a target alone and gets no row.
  // tokens must not be empty; scored_from >= 1.
  int32_t add(std::span<const int32_t> tokens, int32_t scored_from, bool predict_next = false);

  struct Sequence {
    // Indices into Prompts::scores: the scored tokens in order, then the prediction if wanted.
    std::vector<int32_t> scores;
    int32_t last_row = 0;  // row of the last token that is read
  };
  // Builds the trie. Which sequences are there decides the rows; a row's bits depend on its own sequence
  // alone.
  Prompts build(std::vector<Sequence>* sequences) const;

 private:
  struct Entry {
    std::vector<int32_t> tokens;
    int32_t scored_from;
    bool predict_next;
  };
  std::vector<Entry> entries_;
};

}  // namespace eep
