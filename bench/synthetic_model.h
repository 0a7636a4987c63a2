// Synthetic checkpoints: random weights of any configuration, from its config.json alone, so that full-size
// performance is measured without the files.
//
// All matrices are windows into one endless array of random numbers (kernels/noise.h), kWindow elements
// apart: what the host holds is one array as large as the largest matrix. On a GPU each matrix is made where
// it lies, by the noise kernel; the host's array, of the same numbers, is read only for the embedding and for
// layers that are streamed from the host. So experts and layers are shifted copies of each other: good for
// timing and for comparing backends and memory limits bit for bit, not for what a model says.
#pragma once

#include <cstdint>
#include <string>

#include "engine/ops.h"
#include "engine/raw_model.h"

namespace eep::bench {

class SyntheticModel {
 public:
  // layers: as many of the configuration's, 0: all. The configuration's dtype, bf16 where f32 stands.
  SyntheticModel(const std::string& config_json, int64_t layers, const Ops& ops, const Device& device);
  SyntheticModel(const SyntheticModel&) = delete;
  SyntheticModel& operator=(const SyntheticModel&) = delete;

  const RawModel& raw() const { return raw_; }
  // The backend's table, whose pack makes the numbers on the device; for the constructor of Weights.
  const Ops& ops() const { return ops_; }
  size_t host_bytes() const { return host_.bytes(); }

 private:
  RawMatrix matrix(int64_t n, int64_t k);
  RawFfn ffn(int64_t width);
  RawLayer layer(bool sparse);
  Tensor vector(int64_t size, float value);

  RawModel raw_;
  Ops ops_;
  Buffer host_;
  std::vector<std::vector<float>> vectors_;
  int64_t windows_ = 0;
};

}  // namespace eep::bench
