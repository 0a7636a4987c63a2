#include "engine/taps.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

constexpr const char* kChoices = "router.expert";

std::string shape_text(const Tap& tap) {
  return "[" + std::to_string(tap.rows) + ", " + std::to_string(tap.width) + "]";
}

}  // namespace

// Room for the values; those of the rows before, if the tap comes in parts.
float* Taps::room(const char* name, int64_t layer, int64_t rows, int64_t width) {
  const std::string full = layer < 0 ? name : "layer." + std::to_string(layer) + "." + name;
  if (list_.empty() || list_.back().name != full) list_.push_back({full, layer, 0, width, {}});
  Tap& tap = list_.back();
  tap.rows += rows;
  tap.values.resize(static_cast<size_t>(tap.rows * width));
  return tap.values.data() + (tap.rows - rows) * width;
}

void Taps::add(const char* name, int64_t layer, const float* values, int64_t rows, int64_t width) {
  float* const out = room(name, layer, rows, width);
  ops_.download(out, values, static_cast<size_t>(rows * width) * sizeof(float), device_);
}

void Taps::add(const char* name, int64_t layer, const int32_t* indices, int64_t rows, int64_t width) {
  std::vector<int32_t> host(static_cast<size_t>(rows * width));
  ops_.download(host.data(), indices, host.size() * sizeof(int32_t), device_);
  float* const out = room(name, layer, rows, width);
  std::copy(host.begin(), host.end(), out);
}

std::vector<TapDifference> compare_taps(const std::vector<Tap>& made, const std::vector<Tap>& expected,
                                        double rounding) {
  std::vector<TapDifference> differences;
  int64_t roundings = 0;  // none before the first layer
  for (size_t i = 0; i < std::max(made.size(), expected.size()); ++i) {
    if (i >= made.size() || i >= expected.size() || made[i].name != expected[i].name) {
      throw Error(ExitCode::kData, "taps",
                  "the runs differ in what they pass" +
                      expected_got(i < expected.size() ? expected[i].name : "no more",
                                   i < made.size() ? made[i].name : "no more"),
                  "compare runs of one model, plan and sequence");
    }
    const Tap &a = made[i], &b = expected[i];
    if (a.rows != b.rows || a.width != b.width)
      throw Error(ExitCode::kData, a.name, "the shapes differ" + expected_got(shape_text(b), shape_text(a)));
    if (a.layer >= 0) roundings = 4 * a.layer + 4;
    TapDifference difference;
    difference.name = a.name;
    double apart = 0, size = 0;
    for (size_t j = 0; j < a.values.size(); ++j) {
      const double x = static_cast<double>(a.values[j]), y = static_cast<double>(b.values[j]);
      difference.choices += x != y;
      apart += (x - y) * (x - y);
      size += y * y;
    }
    if (a.name.ends_with(kChoices)) {
      difference.within = difference.choices == 0;
    } else {
      difference.choices = 0;
      difference.relative = apart == 0 ? 0 : std::sqrt(apart / size);
      difference.bound = static_cast<double>(roundings) * 2 * rounding;
      difference.within = difference.relative <= difference.bound;  // false for NaN
    }
    differences.push_back(difference);
  }
  return differences;
}

}  // namespace eep
