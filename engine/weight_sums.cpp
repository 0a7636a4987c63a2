#include "engine/weight_sums.h"

#include <cmath>

#include "engine/coded_matrix.h"
#include "engine/raw_values.h"
#include "kernels/cpu/parallel.h"

namespace eep {
namespace {

struct Sums {
  double magnitude = 0, squares = 0;
};

// The elements in row-major order whatever the layout is: fused and transposed experts give the same sums.
void add(const RawMatrix& stored, Sums& sums) {
  Buffer values;
  const RawMatrix matrix = decoded(stored, values);
  for (int64_t i = 0; i < matrix.n; ++i) {
    double magnitude = 0, squares = 0;
    for (int64_t j = 0; j < matrix.k; ++j) {
      const double value = static_cast<double>(raw_value(matrix, i, j));
      magnitude += std::fabs(value);
      squares += value * value;
    }
    sums.magnitude += magnitude;
    sums.squares += squares;
  }
}

}  // namespace

void add_weight_sums(const RawModel& model, int threads, ExpertStatistics& statistics) {
  Device workers;
  workers.threads = threads;
  for (LayerStatistics& layer : statistics.layers) {
    const std::vector<RawFfn>& experts = model.layers[static_cast<size_t>(layer.layer)].experts;
    const auto count = static_cast<int64_t>(experts.size());
    layer[ExpertSum::kWeightMagnitude].assign(experts.size(), 0.0);
    layer[ExpertSum::kWeightSquares].assign(experts.size(), 0.0);
    parallel_for(workers, count, [&](int64_t e) {
      const auto index = static_cast<size_t>(e);
      Sums sums;
      for (const RawMatrix* matrix : {&experts[index].gate, &experts[index].up, &experts[index].down})
        add(*matrix, sums);
      layer[ExpertSum::kWeightMagnitude][index] = sums.magnitude;
      layer[ExpertSum::kWeightSquares][index] = sums.squares;
    });
  }
}

}  // namespace eep
