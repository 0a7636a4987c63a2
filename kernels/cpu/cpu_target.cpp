// cpu_target: names for Highway's targets and the switch between them.
#include "kernels/cpu/cpu_target.h"

#include <cstdint>

#include "kernels/cpu/simd_targets.h"
// Above, because Highway's headers read it.
#include "hwy/highway.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/cpu/amx.h"

namespace eep {
namespace {

constexpr const char* kTiles = "amx";
constexpr int64_t kPlain = HWY_SCALAR | HWY_EMU128;

const char* target_name(int64_t target) {
  switch (target) {
    case HWY_AVX3:
      return "avx512";
    case HWY_AVX2:
      return "avx2";
    case HWY_NEON:
      return "neon";
    default:
      return "plain";
  }
}

// What Highway may choose from in this process: a mask of compiled targets.
void restrict_targets([[maybe_unused]] int64_t mask) {
#if (HWY_TARGETS & (HWY_TARGETS - 1)) != 0
  hwy::SetSupportedTargetsForTest(mask);
#endif
}

// Compiled targets that the machine has, the plain one included, best (lowest bit) first.
std::vector<int64_t> available() {
  static const int64_t mask = [] {
    restrict_targets(0);
    return (static_cast<int64_t>(HWY_SUPPORTED_TARGETS) | kPlain) & HWY_TARGETS;
  }();
  std::vector<int64_t> targets;
  for (int64_t rest = mask; rest != 0; rest &= rest - 1) targets.push_back(rest & -rest);
  return targets;
}

}  // namespace

std::vector<std::string> cpu_targets() {
  std::vector<std::string> names;
  if (amx_found()) names.emplace_back(kTiles);
  for (int64_t target : available()) names.emplace_back(target_name(target));
  return names;
}

std::string cpu_target() {
  if (amx_in_use()) return kTiles;
  const std::vector<int64_t> targets = available();
  const int64_t allowed = static_cast<int64_t>(HWY_SUPPORTED_TARGETS);
  for (int64_t target : targets) {
    if (target & allowed) return target_name(target);
  }
  return target_name(targets.back());
}

void set_cpu_target(std::string_view name) {
  const std::vector<int64_t> targets = available();
  const bool tiles = amx_found() && (name == "auto" || name == kTiles);
  if (name == "auto" || tiles) {
    set_amx(tiles);
    return restrict_targets(0);
  }
  std::string known = amx_found() ? std::string("auto, ") + kTiles : "auto";
  for (int64_t target : targets) {
    if (name == target_name(target)) {
      set_amx(false);
      return restrict_targets(target);
    }
    known += std::string(", ") + target_name(target);
  }
  throw Error(ExitCode::kUsage, "--cpu-target",
              "instruction set not available" + expected_got("one of " + known, std::string(name)));
}

}  // namespace eep
