// Taps: what passes through the layers, by name, for one sequence of one candidate, so that two backends can
// be compared and the first place is found where they part. Nobody pays for them who gives none.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/ops.h"

namespace eep {

struct Tap {
  std::string name;  // "layer.3.router.logits"
  int64_t layer = -1;
  int64_t rows = 0, width = 0;
  std::vector<float> values;  // [rows, width]; indices are whole numbers
};

class Taps {
 public:
  explicit Taps(const Backend& backend) : ops_(*backend.ops), device_(backend.device) {}

  void add(const char* name, int64_t layer, const float* values,  // [rows, width] on the device
           int64_t rows, int64_t width);
  void add(const char* name, int64_t layer, const int32_t* indices,  // [rows, width] on the device
           int64_t rows, int64_t width);
  const std::vector<Tap>& list() const { return list_; }

 private:
  float* room(const char* name, int64_t layer, int64_t rows, int64_t width);

  const Ops& ops_;
  Device device_;
  std::vector<Tap> list_;  // in the order of the pass
};

// What two runs of one sequence say about one tap.
struct TapDifference {
  std::string name;
  double relative = 0;  // |a - b| / |b|, Euclidean
  double bound = 0;     // what rounding explains
  int64_t choices = 0;  // of experts that differ
  bool within = true;
};

// In the order of the pass. At a tap of layer l, what products read was rounded in at most 4 l + 4 places,
// each of which moves a value by `rounding` of its size, in both runs (the unit roundoff of the backends:
// 2^-9 for bf16, 2^-12 for f16, twice that where weights are rounded too; 0: the bits must be the same).
// Experts must be the same. Throws Error(kData) naming a tap that only one run has, or whose shape differs.
std::vector<TapDifference> compare_taps(const std::vector<Tap>& made, const std::vector<Tap>& expected,
                                        double rounding);

}  // namespace eep
