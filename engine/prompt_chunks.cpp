#include "engine/prompt_chunks.h"

#include <algorithm>

namespace eep {
namespace {

// Node ranges of whole trees: [first node, end node).
std::vector<std::pair<size_t, size_t>> trees_of(const Prompts& prompts) {
  std::vector<std::pair<size_t, size_t>> trees;
  for (size_t node = 0; node < prompts.nodes.size(); ++node) {
    if (prompts.nodes[node].parent < 0) trees.emplace_back(node, node);
    trees.back().second = node + 1;
  }
  return trees;
}

int32_t rows_between(const Prompts& prompts, size_t first_node, size_t end_node) {
  const PromptNode& last = prompts.nodes[end_node - 1];
  return last.row_begin + last.row_count - prompts.nodes[first_node].row_begin;
}

// Spans of a node's rows 0 .. row_count - 1 and everything before them in the sequence.
void add_path(const Prompts& prompts, int32_t node, int32_t row_count, int32_t chunk_begin,
              AttentionLayout* layout) {
  std::vector<ChunkSpan> path;
  path.push_back({prompts.nodes[static_cast<size_t>(node)].row_begin - chunk_begin, row_count});
  for (int32_t up = prompts.nodes[static_cast<size_t>(node)].parent; up >= 0;
       up = prompts.nodes[static_cast<size_t>(up)].parent) {
    const PromptNode& ancestor = prompts.nodes[static_cast<size_t>(up)];
    path.push_back({ancestor.row_begin - chunk_begin, ancestor.row_count});
  }
  layout->spans.insert(layout->spans.end(), path.rbegin(), path.rend());
}

PromptChunk make_chunk(const Prompts& prompts, size_t first_node, size_t end_node, size_t* score) {
  PromptChunk chunk;
  chunk.row_begin = prompts.nodes[first_node].row_begin;
  chunk.rows = rows_between(prompts, first_node, end_node);
  const auto range = [&](const std::vector<int32_t>& from) {
    return std::vector<int32_t>(from.begin() + chunk.row_begin, from.begin() + chunk.row_begin + chunk.rows);
  };
  chunk.tokens = range(prompts.tokens);
  chunk.positions = range(prompts.positions);

  chunk.score_begin = static_cast<int32_t>(*score);
  for (; *score < prompts.scores.size() && prompts.scores[*score].row < chunk.row_begin + chunk.rows;
       ++*score) {
    const int32_t row = prompts.scores[*score].row - chunk.row_begin;
    if (chunk.wanted.empty() || chunk.wanted.back() != row) {
      chunk.wanted.push_back(row);
      chunk.wanted_positions.push_back(chunk.positions[static_cast<size_t>(row)]);
    }
    chunk.wanted_of_score.push_back(static_cast<int32_t>(chunk.wanted.size()) - 1);
    chunk.targets.push_back(prompts.scores[*score].target);
  }
  chunk.scores = static_cast<int32_t>(*score) - chunk.score_begin;

  for (size_t index = first_node; index < end_node; ++index) {
    const PromptNode& node = prompts.nodes[index];
    ChunkRun run;
    run.query_begin = node.row_begin - chunk.row_begin;
    run.query_rows = node.row_count;
    run.first_position = node.first_position;
    run.span_begin = static_cast<int32_t>(chunk.all.spans.size());
    add_path(prompts, static_cast<int32_t>(index), node.row_count, chunk.row_begin, &chunk.all);
    run.span_count = static_cast<int32_t>(chunk.all.spans.size()) - run.span_begin;
    chunk.all.runs.push_back(run);
  }
  // Wanted rows that are neighbours within one node make one run.
  for (size_t i = 0; i < chunk.wanted.size();) {
    const int32_t row = chunk.wanted[i];
    const int32_t node = prompts.node_of_row[static_cast<size_t>(chunk.row_begin + row)];
    size_t end = i + 1;
    while (end < chunk.wanted.size() && chunk.wanted[end] == chunk.wanted[end - 1] + 1 &&
           prompts.node_of_row[static_cast<size_t>(chunk.row_begin + chunk.wanted[end])] == node) {
      ++end;
    }
    ChunkRun run;
    run.query_begin = static_cast<int32_t>(i);
    run.query_rows = static_cast<int32_t>(end - i);
    run.first_position = chunk.positions[static_cast<size_t>(row)];
    run.span_begin = static_cast<int32_t>(chunk.last.spans.size());
    const int32_t within = row + chunk.row_begin - prompts.nodes[static_cast<size_t>(node)].row_begin;
    add_path(prompts, node, within + run.query_rows, chunk.row_begin, &chunk.last);
    run.span_count = static_cast<int32_t>(chunk.last.spans.size()) - run.span_begin;
    chunk.last.runs.push_back(run);
    i = end;
  }
  return chunk;
}

}  // namespace

std::vector<int32_t> repeat(const std::vector<int32_t>& values, int64_t count, int32_t step) {
  std::vector<int32_t> out;
  out.reserve(values.size() * static_cast<size_t>(count));
  for (int32_t i = 0; i < static_cast<int32_t>(count); ++i) {
    for (int32_t value : values) out.push_back(value + i * step);
  }
  return out;
}

int64_t largest_tree_rows(const Prompts& prompts) {
  int64_t largest = 0;
  for (const auto& [first, end] : trees_of(prompts)) {
    largest = std::max<int64_t>(largest, rows_between(prompts, first, end));
  }
  return largest;
}

std::vector<PromptChunk> cut_prompts(const Prompts& prompts, int64_t chunk_rows, int64_t first_row) {
  std::vector<PromptChunk> chunks;
  const auto trees = trees_of(prompts);
  size_t score = 0, tree = 0;
  while (tree < trees.size() && prompts.nodes[trees[tree].first].row_begin < first_row) ++tree;
  while (score < prompts.scores.size() && prompts.scores[score].row < first_row) ++score;
  for (size_t i = tree; i < trees.size();) {
    size_t end = i + 1;
    while (end < trees.size() && rows_between(prompts, trees[i].first, trees[end].second) <= chunk_rows)
      ++end;
    chunks.push_back(make_chunk(prompts, trees[i].first, trees[end - 1].second, &score));
    i = end;
  }
  return chunks;
}

}  // namespace eep
