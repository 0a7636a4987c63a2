// Experts of one layer in device memory, and slots sorted over them, for B3 and B4.
#pragma once

#include <vector>

#include "bench/gpu/device_bench.h"

namespace eep::bench {

struct ExpertLayer {
  DeviceBuffer memory;  // gate, up and down of each expert, one after the other
  std::vector<ExpertMatrices> matrices;

  ExpertLayer(DeviceBench& bench, const ModelShape& model, int32_t experts)
      : memory(bench.random(3 * experts * model.hidden * model.intermediate, bench.weights(), 0.03f)) {
    const int64_t elements = model.hidden * model.intermediate;
    for (int64_t i = 0; i < experts; ++i) {
      const auto matrix = [&](int64_t number, int64_t n, int64_t k) {
        return PackedMatrix{memory.as<uint16_t>() + (3 * i + number) * elements, bench.weights(), n, k};
      };
      matrices.push_back({matrix(0, model.intermediate, model.hidden),
                          matrix(1, model.intermediate, model.hidden),
                          matrix(2, model.hidden, model.intermediate)});
    }
  }
};

enum class Spread { kUniform, kZipf, kOneEmpty, kOneGiant };

// Rows of each group, `total` of them together. Zipf: the share of group i is proportional to 1 / (i + 1).
inline std::vector<int64_t> group_sizes(int64_t total, int32_t groups, Spread spread) {
  std::vector<double> share(static_cast<size_t>(groups), 1.0);
  if (spread == Spread::kZipf)
    for (size_t i = 0; i < share.size(); ++i) share[i] = 1.0 / static_cast<double>(i + 1);
  if (spread == Spread::kOneEmpty) share.back() = 0;
  if (spread == Spread::kOneGiant) share[0] = static_cast<double>(groups);
  double sum = 0, passed = 0;
  for (double value : share) sum += value;
  std::vector<int64_t> sizes;
  int64_t given = 0;
  for (double value : share) {
    passed += value;
    const int64_t until = static_cast<int64_t>(static_cast<double>(total) * passed / sum + 0.5);
    sizes.push_back(until - given);
    given = until;
  }
  return sizes;
}

}  // namespace eep::bench
