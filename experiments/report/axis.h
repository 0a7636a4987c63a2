// A linear axis: round ends, round ticks, labels of equal precision.
#pragma once

#include <string>
#include <vector>

namespace eep {

struct Axis {
  double low = 0, high = 1;
  double pixel_low = 0, pixel_high = 1;  // where the ends are drawn
  std::vector<double> ticks;             // within the ends, ascending
  int decimals = 0;                      // of tick labels
  double factor = 1;                     // of tick labels: 100 for percent

  double at(double value) const {
    return pixel_low + (value - low) / (high - low) * (pixel_high - pixel_low);
  }
  std::string label(double tick) const;
};

// About `count` ticks; the ends are the outermost ticks if `round_ends`, else the data's with a small margin.
// whole: ticks are whole numbers. Equal or reversed ends are spread.
Axis make_axis(double low, double high, int count, bool round_ends, bool whole = false, double factor = 1);

}  // namespace eep
