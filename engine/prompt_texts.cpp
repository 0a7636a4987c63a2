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

}  // namespace eep
