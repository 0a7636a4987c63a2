// CalibrationDetails: sums of a calibration pass beyond kernels/expert_stats.h, for the criteria that look at
// whole outputs or at pairs of experts. They are made on the host from what the pass hands over, in f64, each
// by one owner in ascending row order, so they do not depend on threads or blocks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/expert_statistics.h"
#include "kernels/common/device.h"

namespace eep {

// Rows of one layer, in host memory.
struct DetailRows {
  int64_t rows = 0;
  int32_t slots = 0;
  const float* residual = nullptr;  // [rows, hidden] before the block
  const float* logits = nullptr;    // [rows, experts]
  const int32_t* expert = nullptr;  // [rows, slots], -1: none
  const float* weight = nullptr;    // [rows, slots]
  const float* slot_out = nullptr;  // [rows * slots, hidden]
};

class CalibrationDetails {
 public:
  // every_expert: add_every_expert will be called. sigmoids: an expert's probability is that of its own
  // logit.
  CalibrationDetails(size_t layers, int32_t experts, int64_t hidden, bool sigmoids, bool every_expert,
                     int threads);

  size_t bytes();

  void add(size_t layer, const DetailRows& rows);
  // f_j of every expert on some rows: [rows, experts, hidden]; logits [rows, experts].
  void add_every_expert(size_t layer, const std::vector<float>& outputs, const float* logits, int64_t rows);

  // Moves the sums and matrices of a layer into its statistics.
  void finish(size_t layer, LayerStatistics& statistics);

  // What has been summed of a layer until now, in one order: vectors of fixed sizes, and the rows of
  // add_every_expert.
  template <typename Visit>
  void for_sums(size_t layer, const Visit& visit) {
    Layer& of = layers_[layer];
    for (std::vector<double>* sum : {&of.change_norm, &of.credit, &of.interaction, &of.logit_gram,
                                     &of.output_sum, &of.mean_output, &of.gated_output})
      visit(*sum);
  }
  int64_t& dense_rows(size_t layer) { return layers_[layer].dense_rows; }

 private:
  struct Layer {
    std::vector<double> change_norm, credit;        // [experts]
    std::vector<double> interaction, logit_gram;    // [experts, experts], the upper triangle
    std::vector<double> output_sum;                 // [experts, hidden]
    std::vector<double> mean_output, gated_output;  // [experts, hidden], sums over dense_rows
    int64_t dense_rows = 0;
  };
  void add_tokens(Layer& layer, const DetailRows& rows) const;

  int32_t experts_;
  int64_t hidden_;
  bool sigmoids_;
  Device workers_;  // the host's threads
  std::vector<Layer> layers_;
};

}  // namespace eep
