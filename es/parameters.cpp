// The check of ranges.
#include "es/parameters.h"

#include <fmt/format.h>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

template <typename Number>
void check_range(std::string_view where, const char* name, Number value, Number smallest, Number largest) {
  if (value >= smallest && value <= largest) return;  // false for NaN
  throw Error(ExitCode::kConfig, fmt::format("{}.{}", where, name),
              "value out of range" +
                  expected_got(fmt::format("{}..{}", smallest, largest), fmt::format("{}", value)));
}

}  // namespace

void ParameterCheck::number(const char* name, double& value, double smallest, double largest) {
  check_range(where_, name, value, smallest, largest);
}

void ParameterCheck::integer(const char* name, int32_t& value, int32_t smallest, int32_t largest) {
  check_range(where_, name, value, smallest, largest);
}

void ParameterCheck::choice(const char* name, uint8_t& value, std::span<const std::string_view> names) {
  check_range<size_t>(where_, name, value, 0, names.size() - 1);
}

void ParameterCheck::constant(const char* name, double& value, double smallest, double largest) {
  check_range(where_, name, value, smallest, largest);
}

}  // namespace eep
