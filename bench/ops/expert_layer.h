// Experts of one layer in device memory, and their products for slots that are sorted over them: for
// expert_ffn and for the block of a layer.
#pragma once

#include <vector>

#include "bench/ops/ops.h"

namespace eep::bench {

struct ExpertLayer {
  DeviceBuffer memory;  // gate, up and down of each expert, one after the other
  std::vector<ExpertMatrices> matrices;

  ExpertLayer(Bench& bench, int64_t hidden, int64_t intermediate, int32_t experts,
              DType dtype = DType::kBF16) {
    const DType packed = bench.weights(dtype);
    // each aligned for a GPU's wide loads and the CPU's cache lines
    const auto size = static_cast<int64_t>(dtype_size(packed)), aligned = 128 / size;
    const auto elements = [&](int64_t n, int64_t k) {
      const auto bytes = static_cast<int64_t>(bench.ops().packed_bytes(n, k, dtype));
      return (bytes / size + aligned - 1) / aligned * aligned;
    };
    const int64_t up = elements(intermediate, hidden), down = elements(hidden, intermediate);
    memory = bench.random(experts * (2 * up + down), packed, 0.03f);
    const auto matrix = [&](int64_t first, int64_t n, int64_t k) {
      return PackedMatrix{memory.as<char>() + first * size, packed, n, k};
    };
    for (int64_t i = 0; i < experts; ++i) {
      const int64_t first = i * (2 * up + down);
      matrices.push_back({matrix(first, intermediate, hidden), matrix(first + up, intermediate, hidden),
                          matrix(first + 2 * up, hidden, intermediate)});
    }
  }
};

// The grouped products of a layer: arguments but for x, order and offset, and what they write.
struct GroupedProducts {
  DeviceBuffer activation, out;
  ExpertFfnArgs args;

  GroupedProducts(Bench& bench, const ExpertLayer& layer, int64_t total, int32_t slots)
      : activation(
            bench.empty(static_cast<int64_t>(expert_ffn_scratch_bytes(total, layer.matrices[0].gate.n)))),
        out(bench.empty(total * layer.matrices[0].gate.k * 4)) {
    args.slots = slots;
    args.groups = static_cast<int32_t>(layer.matrices.size());
    args.experts = layer.matrices.data();
    args.hidden = layer.matrices[0].gate.k;
    args.intermediate = layer.matrices[0].gate.n;
    args.activation = activation.as<float>();
    args.out = out.as<float>();
  }
};

}  // namespace eep::bench
