// Baselines that skip experts token by token, NAEE's dynamic skipping: alone, and on the plan of a one-shot
// criterion. They keep the model's own number of active experts, which is two.
#pragma once

#include <span>
#include <string_view>

namespace eep {

struct SkippingRow {
  std::string_view name, words;
  std::string_view criterion;  // whose plan is skipped in; "": the full model's
};

std::span<const SkippingRow> skipping_methods();
const SkippingRow* find_skipping(std::string_view name);  // or null

}  // namespace eep
