#include "engine/prompt_texts.h"

namespace eep {

Prompts prompts_apart(std::span<const Prompts> parts) {
  Prompts all;
  for (const Prompts& part : parts) {
    const auto first_row = static_cast<int32_t>(all.rows());
    const auto first_node = static_cast<int32_t>(all.nodes.size());
    all.tokens.insert(all.tokens.end(), part.tokens.begin(), part.tokens.end());
    all.positions.insert(all.positions.end(), part.positions.begin(), part.positions.end());
    for (PromptNode node : part.nodes) {
      if (node.parent >= 0) node.parent += first_node;
      node.row_begin += first_row;
      all.nodes.push_back(node);
    }
    for (int32_t node : part.node_of_row) all.node_of_row.push_back(node + first_node);
    all.tokens_without_sharing += part.tokens_without_sharing;
  }
  return all;
}

Prompts prompts_between(const Prompts& prompts, int64_t begin, int64_t end) {
  Prompts part;
  part.tokens.assign(prompts.tokens.begin() + begin, prompts.tokens.begin() + end);
  part.positions.assign(prompts.positions.begin() + begin, prompts.positions.begin() + end);
  part.tokens_without_sharing = end - begin;
  if (begin == end) return part;
  const int32_t first_node = prompts.node_of_row[static_cast<size_t>(begin)];
  for (int64_t row = begin; row < end; ++row)
    part.node_of_row.push_back(prompts.node_of_row[static_cast<size_t>(row)] - first_node);
  for (int32_t node = first_node; node <= first_node + part.node_of_row.back(); ++node) {
    PromptNode copy = prompts.nodes[static_cast<size_t>(node)];
    if (copy.parent >= 0) copy.parent -= first_node;
    copy.row_begin -= static_cast<int32_t>(begin);
    part.nodes.push_back(copy);
  }
  return part;
}

}  // namespace eep
