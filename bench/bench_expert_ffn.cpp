// expert_ffn: grouped SwiGLU experts, side by side with three OpenBLAS products an expert (f32 weights, one
// thread, rows already gathered) and the same activation.
#include <fmt/core.h>

#include <cmath>
#include <numeric>

#include "bench/bench.h"
#include "kernels/expert_ffn.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"
#ifdef EEP_OPENBLAS
#include <cblas.h>
#endif

using namespace eep;
using namespace eep::test;

namespace {

// Slots spread evenly over the experts, in sorted order.
struct Layer {
  ExpertCase c;
  Floats x, activation, out;
  std::vector<Weights> weights;  // gate, up, down of each expert
  std::vector<ExpertMatrices> matrices;
  std::vector<int32_t> offset, order;

  explicit Layer(const ExpertCase& case_) : c(case_) {
    Data data(c.seed);
    const int64_t total = c.rows * c.slots;
    x = data.floats(c.rows * c.hidden);
    activation.resize(static_cast<size_t>(total * c.intermediate));
    out.resize(static_cast<size_t>(total * c.hidden));
    for (int32_t e = 0; e < c.experts; ++e) {
      weights.emplace_back(data.floats(c.intermediate * c.hidden), c.intermediate, c.hidden, c.dtype);
      weights.emplace_back(data.floats(c.intermediate * c.hidden), c.intermediate, c.hidden, c.dtype);
      weights.emplace_back(data.floats(c.hidden * c.intermediate), c.hidden, c.intermediate, c.dtype);
    }
    for (size_t e = 0; e < static_cast<size_t>(c.experts); ++e) {
      matrices.push_back({weights[3 * e].packed, weights[3 * e + 1].packed, weights[3 * e + 2].packed});
    }
    for (int32_t e = 0; e < c.experts; ++e) {
      offset.push_back(static_cast<int32_t>(order.size()));
      for (int64_t slot = e; slot < total; slot += c.experts) order.push_back(static_cast<int32_t>(slot));
    }
    offset.push_back(static_cast<int32_t>(order.size()));
  }

  ExpertFfnArgs args() {
    ExpertFfnArgs a;
    a.x = x.data();
    a.slots = c.slots;
    a.order = order.data();
    a.offset = offset.data();
    a.groups = c.experts;
    a.experts = matrices.data();
    a.hidden = c.hidden;
    a.intermediate = c.intermediate;
    a.activation = activation.data();
    a.out = out.data();
    return a;
  }
};

#ifdef EEP_OPENBLAS
void multiply(int64_t rows, const Floats& w, int64_t n, int64_t k, const float* in, float* result) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(rows), static_cast<int>(n),
              static_cast<int>(k), 1.0f, in, static_cast<int>(k), w.data(), static_cast<int>(k), 0.0f, result,
              static_cast<int>(n));
}

struct BlasLayer {
  Layer& layer;
  Floats gathered, up;

  explicit BlasLayer(Layer& layer_) : layer(layer_), up(layer_.activation.size()) {
    const ExpertCase& c = layer.c;
    for (int32_t slot : layer.order) {
      const auto row = layer.x.begin() + slot / c.slots * c.hidden;
      gathered.insert(gathered.end(), row, row + c.hidden);
    }
  }
  void run() {
    const ExpertCase& c = layer.c;
    for (size_t e = 0; e < static_cast<size_t>(c.experts); ++e) {
      const int64_t first = layer.offset[e], rows = layer.offset[e + 1] - first;
      if (rows == 0) continue;
      float* gate = layer.activation.data() + first * c.intermediate;
      float* other = up.data() + first * c.intermediate;
      multiply(rows, layer.weights[3 * e].values, c.intermediate, c.hidden,
               &gathered[static_cast<size_t>(first * c.hidden)], gate);
      multiply(rows, layer.weights[3 * e + 1].values, c.intermediate, c.hidden,
               &gathered[static_cast<size_t>(first * c.hidden)], other);
      for (int64_t i = 0; i < rows * c.intermediate; ++i)
        gate[i] = gate[i] / (1 + std::exp(-gate[i])) * other[i];
      multiply(rows, layer.weights[3 * e + 2].values, c.hidden, c.intermediate, gate,
               layer.out.data() + first * c.hidden);
    }
  }
};
#endif

}  // namespace

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);
#ifdef EEP_OPENBLAS
  openblas_set_num_threads(1);
#endif
  for (const ExpertCase& c : kExpertShapes) {
    Layer layer(c);
    const ExpertFfnArgs args = layer.args();
    bench::Case b;
    b.op = "expert_ffn";
    b.shape = fmt::format("{}x{} of {}, {}x{} {}", c.rows, c.slots, c.experts, c.hidden, c.intermediate,
                          dtype_name(c.dtype));
    b.flops = 6.0 * static_cast<double>(c.rows * c.slots * c.hidden * c.intermediate);
    const double used = static_cast<double>(std::min<int64_t>(c.experts, c.rows * c.slots));
    b.bytes = 6.0 * used * static_cast<double>(c.hidden * c.intermediate) +
              8.0 * static_cast<double>(layer.out.size());
    b.threads = bench.threads();
    b.run = [&] { expert_ffn_cpu(args, cpu(bench.threads())); };
#ifdef EEP_OPENBLAS
    BlasLayer blas(layer);
    b.baseline_name = "OpenBLAS";
    b.baseline = [&] { blas.run(); };
#endif
    bench.run(b);
  }
  return bench.finish();
}
