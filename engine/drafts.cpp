#include "engine/drafts.h"

#include <algorithm>

namespace eep {
namespace {

// Tokens before `end` in output that equal the last ones of made, at most `most`.
size_t common_tail(std::span<const int32_t> output, size_t end, std::span<const int32_t> made, size_t most) {
  size_t length = 0;
  while (length < most && length < end && length < made.size() &&
         output[end - 1 - length] == made[made.size() - 1 - length]) {
    ++length;
  }
  return length;
}

}  // namespace

void Drafts::add(int64_t item, std::span<const int32_t> output) {
  if (output.empty()) return;
  std::vector<std::vector<int32_t>>& kept = outputs_[item];
  const auto same = std::find_if(kept.begin(), kept.end(), [&](const std::vector<int32_t>& other) {
    return std::equal(other.begin(), other.end(), output.begin(), output.end());
  });
  if (same != kept.end()) {
    std::rotate(kept.begin(), same, same + 1);
    return;
  }
  kept.insert(kept.begin(), std::vector<int32_t>(output.begin(), output.end()));
  if (kept.size() > kKept) kept.pop_back();
}

std::span<const int32_t> Drafts::after(int64_t item, std::span<const int32_t> made) const {
  const auto found = outputs_.find(item);
  if (found == outputs_.end()) return {};
  for (const std::vector<int32_t>& output : found->second) {
    if (output.size() > made.size() && std::equal(made.begin(), made.end(), output.begin()))
      return std::span(output).subspan(made.size());
  }
  constexpr size_t kLongest = 4;  // of a tail that is looked for
  std::span<const int32_t> best;
  size_t best_length = 0, best_distance = 0;
  for (const std::vector<int32_t>& output : found->second) {
    for (size_t end = 1; end < output.size(); ++end) {
      const size_t length = common_tail(output, end, made, kLongest);
      const size_t distance = end > made.size() ? end - made.size() : made.size() - end;
      if (length < 1 || length < best_length) continue;
      if (length == best_length && distance >= best_distance) continue;
      best = std::span(output).subspan(end);
      best_length = length;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace eep
