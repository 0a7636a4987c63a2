// The trie of prompts. Sequences are sorted, so those that share a prefix are neighbours, and a node ends
// where the next sequence leaves it.
#include "engine/prompts.h"

#include <algorithm>
#include <numeric>

namespace eep {
namespace {

size_t common_prefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  const size_t limit = std::min(a.size(), b.size());
  size_t length = 0;
  while (length < limit && a[length] == b[length]) ++length;
  return length;
}

}  // namespace

Prompts side_by_side(std::span<const std::vector<int32_t>> sequences) {
  Prompts prompts;
  for (const std::vector<int32_t>& sequence : sequences) {
    const auto node = static_cast<int32_t>(prompts.nodes.size());
    prompts.nodes.push_back(
        {-1, 0, static_cast<int32_t>(prompts.tokens.size()), static_cast<int32_t>(sequence.size())});
    for (size_t position = 0; position < sequence.size(); ++position) {
      prompts.tokens.push_back(sequence[position]);
      prompts.positions.push_back(static_cast<int32_t>(position));
      prompts.node_of_row.push_back(node);
    }
    prompts.tokens_without_sharing += static_cast<int64_t>(sequence.size());
  }
  return prompts;
}

int32_t PromptBuilder::add(std::span<const int32_t> tokens, int32_t scored_from, bool predict_next) {
  entries_.push_back({{tokens.begin(), tokens.end()}, scored_from, predict_next});
  return static_cast<int32_t>(entries_.size()) - 1;
}

Prompts PromptBuilder::build(std::vector<Sequence>* sequences) const {
  const size_t count = entries_.size();
  // What each sequence needs to be read: a last token that is only a target is not (but one token always is).
  std::vector<std::span<const int32_t>> read;
  for (const Entry& entry : entries_) {
    const bool target_only = !entry.predict_next && entry.tokens.size() > 1;
    read.push_back(std::span(entry.tokens).first(entry.tokens.size() - (target_only ? 1 : 0)));
  }
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (!std::equal(read[a].begin(), read[a].end(), read[b].begin(), read[b].end())) {
      return std::lexicographical_compare(read[a].begin(), read[a].end(), read[b].begin(), read[b].end());
    }
    return a < b;
  });

  // Where each sequence (in sorted order) must have a node boundary: its own end, and the points at which
  // neighbours branch off.
  std::vector<size_t> shared(count + 1, 0);  // with the previous sequence in sorted order
  for (size_t i = 1; i < count; ++i) {
    shared[i] = common_prefix(read[order[i - 1]], read[order[i]]);
  }

  Prompts prompts;
  // The path of the current sequence: nodes with their ends (exclusive position).
  struct Step {
    int32_t node;
    size_t end;
  };
  std::vector<Step> path;
  std::vector<std::vector<int32_t>> rows_of(count);  // row of each token of each sequence
  std::vector<int32_t> row_at;                       // rows of the current path, by position
  for (size_t i = 0; i < count; ++i) {
    const std::span<const int32_t> tokens = read[order[i]];
    prompts.tokens_without_sharing += static_cast<int64_t>(tokens.size());
    while (!path.empty() && path.back().end > shared[i]) path.pop_back();
    row_at.resize(path.empty() ? 0 : path.back().end);
    // Later sequences may branch off inside what this one adds; cut there. Branch points ahead: the running
    // minimum of `shared`.
    std::vector<size_t> cuts;
    size_t reach = tokens.size();
    for (size_t j = i + 1; j < count && reach > row_at.size(); ++j) {
      reach = std::min(reach, shared[j]);
      if (reach > row_at.size() && reach < tokens.size() && (cuts.empty() || cuts.back() != reach)) {
        cuts.push_back(reach);
      }
    }
    std::reverse(cuts.begin(), cuts.end());
    cuts.push_back(tokens.size());
    for (size_t end : cuts) {
      const size_t begin = row_at.size();
      if (end <= begin) continue;
      const int32_t node = static_cast<int32_t>(prompts.nodes.size());
      const int32_t row = static_cast<int32_t>(prompts.tokens.size());
      prompts.nodes.push_back({path.empty() ? -1 : path.back().node, static_cast<int32_t>(begin), row,
                               static_cast<int32_t>(end - begin)});
      for (size_t position = begin; position < end; ++position) {
        prompts.tokens.push_back(tokens[position]);
        prompts.positions.push_back(static_cast<int32_t>(position));
        prompts.node_of_row.push_back(node);
        row_at.push_back(row + static_cast<int32_t>(position - begin));
      }
      path.push_back({node, end});
    }
    rows_of[order[i]] = row_at;
  }

  // Scores in ascending (row, target), each wanted pair once.
  std::vector<std::vector<ScorePosition>> wanted(count);
  for (size_t i = 0; i < count; ++i) {
    const Entry& entry = entries_[i];
    for (size_t position = static_cast<size_t>(entry.scored_from); position < entry.tokens.size();
         ++position) {
      wanted[i].push_back({rows_of[i][position - 1], entry.tokens[position]});
    }
    if (entry.predict_next) wanted[i].push_back({rows_of[i].back(), -1});
    prompts.scores.insert(prompts.scores.end(), wanted[i].begin(), wanted[i].end());
  }
  const auto less = [](const ScorePosition& a, const ScorePosition& b) {
    return a.row != b.row ? a.row < b.row : a.target < b.target;
  };
  const auto equal = [](const ScorePosition& a, const ScorePosition& b) {
    return a.row == b.row && a.target == b.target;
  };
  std::sort(prompts.scores.begin(), prompts.scores.end(), less);
  prompts.scores.erase(std::unique(prompts.scores.begin(), prompts.scores.end(), equal),
                       prompts.scores.end());

  if (sequences != nullptr) {
    sequences->assign(count, {});
    for (size_t i = 0; i < count; ++i) {
      for (const ScorePosition& score : wanted[i]) {
        const auto found = std::lower_bound(prompts.scores.begin(), prompts.scores.end(), score, less);
        (*sequences)[i].scores.push_back(static_cast<int32_t>(found - prompts.scores.begin()));
      }
      (*sequences)[i].last_row = rows_of[i].back();
    }
  }
  return prompts;
}

}  // namespace eep
