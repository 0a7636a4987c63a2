// The prompt trie: what it stores, what it shares, and that every sequence finds its rows again.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>

#include "engine/prompt_chunks.h"
#include "engine/prompts.h"

using namespace eep;

namespace {

// Tokens of a row's sequence from position 0 to the row, by walking up the nodes.
std::vector<int32_t> path_tokens(const Prompts& prompts, int32_t row) {
  std::vector<int32_t> tokens;
  int32_t node = prompts.node_of_row[static_cast<size_t>(row)];
  int32_t end = row + 1;
  while (node >= 0) {
    const PromptNode& here = prompts.nodes[static_cast<size_t>(node)];
    for (int32_t r = end - 1; r >= here.row_begin; --r)
      tokens.insert(tokens.begin(), prompts.tokens[static_cast<size_t>(r)]);
    node = here.parent;
    if (node >= 0)
      end = prompts.nodes[static_cast<size_t>(node)].row_begin +
            prompts.nodes[static_cast<size_t>(node)].row_count;
  }
  return tokens;
}

std::vector<std::vector<int32_t>> random_sequences(uint32_t seed, size_t count) {
  std::mt19937 generator(seed);
  std::vector<std::vector<int32_t>> sequences;
  for (size_t i = 0; i < count; ++i) {
    std::vector<int32_t> tokens;
    const size_t length = 1 + generator() % 9;
    for (size_t j = 0; j < length; ++j) tokens.push_back(static_cast<int32_t>(generator() % 2));
    sequences.push_back(tokens);
  }
  return sequences;
}

}  // namespace

TEST_CASE("prompts: a shared prefix is stored once") {
  PromptBuilder builder;
  const std::vector<int32_t> yes{5, 6, 7, 1}, no{5, 6, 7, 2}, other{9};
  builder.add(yes, 3);
  builder.add(no, 3);
  builder.add(other, 1, true);
  std::vector<PromptBuilder::Sequence> sequences;
  const Prompts prompts = builder.build(&sequences);
  CHECK(prompts.rows() == 4);  // 5 6 7, and 9: a last token that is only a target is not read
  CHECK(prompts.tokens_without_sharing == 7);
  CHECK(prompts.scores.size() == 3);  // two targets at one row, and the prediction
  CHECK(prompts.scores[static_cast<size_t>(sequences[0].scores[0])].target == 1);
  CHECK(prompts.scores[static_cast<size_t>(sequences[1].scores[0])].target == 2);
  CHECK(prompts.scores[static_cast<size_t>(sequences[0].scores[0])].row ==
        prompts.scores[static_cast<size_t>(sequences[1].scores[0])].row);
  CHECK(prompts.scores[static_cast<size_t>(sequences[2].scores[0])].target == -1);
}

TEST_CASE("prompts: every row stands for its own sequence, and no prefix occurs twice") {
  for (uint32_t seed = 1; seed <= 50; ++seed) {
    CAPTURE(seed);
    const auto input = random_sequences(seed, 1 + seed % 23);
    PromptBuilder builder;
    for (const auto& tokens : input) builder.add(tokens, 1, seed % 2 == 0);
    std::vector<PromptBuilder::Sequence> sequences;
    const Prompts prompts = builder.build(&sequences);
    std::vector<std::vector<int32_t>> prefixes;
    for (int32_t row = 0; row < prompts.rows(); ++row) {
      prefixes.push_back(path_tokens(prompts, row));
      CHECK(prefixes.back().size() == static_cast<size_t>(prompts.positions[static_cast<size_t>(row)]) + 1);
    }
    std::sort(prefixes.begin(), prefixes.end());
    CHECK(std::adjacent_find(prefixes.begin(), prefixes.end()) == prefixes.end());
    for (size_t i = 0; i < input.size(); ++i) {
      std::vector<int32_t> read = input[i];
      if (seed % 2 != 0 && read.size() > 1) read.pop_back();
      CHECK(path_tokens(prompts, sequences[i].last_row) == read);
      CHECK(sequences[i].scores.size() == input[i].size() - 1 + (seed % 2 == 0 ? 1 : 0));
      for (size_t j = 0; j + 1 < input[i].size(); ++j) {
        const ScorePosition& score = prompts.scores[static_cast<size_t>(sequences[i].scores[j])];
        CHECK(score.target == input[i][j + 1]);
        CHECK(path_tokens(prompts, score.row) ==
              std::vector<int32_t>(input[i].begin(), input[i].begin() + static_cast<int64_t>(j) + 1));
      }
    }
  }
}

TEST_CASE("prompts: chunks are whole trees, cover every row and score once, and runs see their path") {
  for (uint32_t seed = 1; seed <= 30; ++seed) {
    CAPTURE(seed);
    std::mt19937 generator(seed);
    PromptBuilder builder;
    for (const auto& tokens : random_sequences(seed, 20)) {
      std::vector<int32_t> longer{static_cast<int32_t>(generator() % 5) + 10};
      longer.insert(longer.end(), tokens.begin(), tokens.end());
      builder.add(longer, static_cast<int32_t>(longer.size()) - 1, true);
    }
    const Prompts prompts = builder.build(nullptr);
    const int64_t limit = largest_tree_rows(prompts) + static_cast<int64_t>(seed % 7);
    int32_t next_row = 0, next_score = 0;
    for (const PromptChunk& chunk : cut_prompts(prompts, limit)) {
      CHECK(chunk.row_begin == next_row);
      CHECK(chunk.score_begin == next_score);
      CHECK(chunk.rows <= limit);
      next_row += chunk.rows;
      next_score += chunk.scores;
      for (const AttentionLayout* layout : {&chunk.all, &chunk.last}) {
        for (const ChunkRun& run : layout->runs) {
          std::vector<int32_t> keys;
          for (int32_t s = 0; s < run.span_count; ++s) {
            const ChunkSpan& span = layout->spans[static_cast<size_t>(run.span_begin + s)];
            for (int32_t r = 0; r < span.rows; ++r)
              keys.push_back(chunk.tokens[static_cast<size_t>(span.row_begin + r)]);
          }
          CHECK(keys.size() == static_cast<size_t>(run.first_position + run.query_rows));
          const int32_t local = run.query_begin + run.query_rows - 1;
          const int32_t last = layout == &chunk.all ? local : chunk.wanted[static_cast<size_t>(local)];
          CHECK(keys == path_tokens(prompts, chunk.row_begin + last));
        }
      }
    }
    CHECK(next_row == prompts.rows());
    CHECK(next_score == static_cast<int32_t>(prompts.scores.size()));
  }
}
