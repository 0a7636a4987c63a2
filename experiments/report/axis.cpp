#include "experiments/report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace eep {

std::string Axis::label(double tick) const {
  std::string text = fmt::format("{:.{}f}", tick * factor, decimals);
  return text == "-0" ? "0" : text;
}

Axis make_axis(double low, double high, int count, bool round_ends, bool whole, double factor) {
  Axis axis;
  axis.factor = factor;
  if (!(high > low)) {
    const double spread = std::max(std::abs(low) * 0.05, whole ? 1.0 : 0.01);
    low -= whole ? 0 : spread;
    high = low + (whole ? 1 : 2) * spread;
  }
  const double raw = (high - low) * factor / std::max(1, count);
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (const double multiple : {1.0, 2.0, 5.0}) {
    if (multiple * power >= raw * 0.999) {
      step = multiple * power;
      break;
    }
  }
  if (whole) step = std::max(1.0, std::round(step));
  axis.decimals = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 9);
  step /= factor;
  const double margin = round_ends ? 0 : (high - low) * 0.03;
  axis.low = round_ends ? std::floor(low / step + 1e-9) * step : low - margin;
  axis.high = round_ends ? std::ceil(high / step - 1e-9) * step : high + margin;
  for (double tick = std::ceil(axis.low / step - 1e-9) * step;
       tick <= axis.high + step * 1e-6 && axis.ticks.size() < 50; tick += step)
    axis.ticks.push_back(std::abs(tick) < step * 1e-9 ? 0 : tick);
  return axis;
}

}  // namespace eep
