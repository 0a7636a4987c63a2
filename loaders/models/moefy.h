// A dense SwiGLU model as a mixture of experts. SwiGLU acts neuron by neuron, so the FFN is the sum of its
// parts over any partition of its neurons:
//
//   ffn(x) = sum_e down[:, G_e] (silu(gate[G_e, :] x) * up[G_e, :] x)
//
// Groups of equal size hold neurons that are active together on calibration text (balanced clustering of
// |activations|). With top_k = E the router is zero and down is scaled by E: every weight is 1/E and the
// mixture is the dense FFN. With top_k < E a linear router is fitted (ridge regression) to the logarithm of
// each group's contribution, flattened so that the chosen weights are near 1/top_k, and down is scaled by
// top_k: the mixture is about the sum of the largest contributions.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/ops.h"
#include "engine/raw_model.h"
#include "kernels/common/device.h"
#include "loaders/formats/json.h"
#include "loaders/models/export_shards.h"

namespace eep {

struct MoefyOptions {
  int32_t experts = 8;
  int32_t top_k = 8;
  Device device;
  size_t memory = 0;
  std::function<void(int64_t done, int64_t total)> progress;  // layers
};

struct MoefyLayer {
  std::vector<int32_t> neurons;  // [intermediate] the neurons of expert 0, then of expert 1, ...
  std::vector<float> router;     // [experts, hidden]
};

// `dense`: a Mixtral of one expert. sequences: calibration text; empty: groups are runs of neurons (only with
// top_k = experts). Throws Error(kUsage) for counts that do not fit.
std::vector<MoefyLayer> split_neurons(const RawModel& dense, const Ops& ops,
                                      const std::vector<std::vector<int32_t>>& sequences,
                                      const MoefyOptions& options);

// Tensors of the mixture; what they refer to must outlive them.
std::vector<StreamedTensor> moefy_tensors(const RawModel& dense, const std::vector<MoefyLayer>& layers,
                                          const MoefyOptions& options);

// `experts` groups of equal size of the columns of `activity`, columns that are large in the same rows
// together. Deterministic; ties go to the lower index.
std::vector<int32_t> balanced_clusters(const std::vector<float>& activity,  // [rows, columns], not negative
                                       int64_t rows, int64_t columns, int32_t experts);

// Solves (x^T x + ridge * trace / n * I) w = x^T y for w: [outputs, inputs].
std::vector<float> ridge_regression(const std::vector<float>& x,  // [rows, inputs]
                                    const std::vector<float>& y,  // [rows, outputs]
                                    int64_t rows, int64_t inputs, int64_t outputs, double ridge);

}  // namespace eep
