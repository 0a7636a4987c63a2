#include "experiments/study/skipping.h"

#include <algorithm>
#include <array>

namespace eep {

std::span<const SkippingRow> skipping_methods() {
  static constexpr std::array kRows{
      SkippingRow{"dyn", "the full model, a second expert below its layer's median share is skipped", ""},
      SkippingRow{"naee_dyn", "the same in the plan of naee", "naee"},
  };
  return kRows;
}

const SkippingRow* find_skipping(std::string_view name) {
  const auto rows = skipping_methods();
  const auto row =
      std::find_if(rows.begin(), rows.end(), [&](const SkippingRow& r) { return r.name == name; });
  return row == rows.end() ? nullptr : &*row;
}

}  // namespace eep
