// expert_ffn: grouped SwiGLU products. B3: the experts of each model, many rows and few, even and uneven.
// C: a layer of the demo models and 16 experts of a larger one, on the CPU beside three OpenBLAS products an
// expert (f32 weights, one thread, rows already gathered) and the same activation.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "bench/openblas.h"
#include "bench/ops/expert_layer.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

enum class Spread { kUniform, kZipf, kOneEmpty, kOneGiant };

const char* spread_name(Spread spread) {
  switch (spread) {
    case Spread::kUniform:
      return "uniform";
    case Spread::kZipf:
      return "Zipf 1.0";
    case Spread::kOneEmpty:
      return "one empty";
    default:
      return "one giant";
  }
}

// Rows of each group, `total` of them together. Zipf: the share of group i is proportional to 1 / (i + 1).
std::vector<int64_t> group_sizes(int64_t total, int32_t groups, Spread spread) {
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

// Slot p of the sorted list belongs to row stride * p mod rows: every gathered row is far from the one
// before.
std::vector<int32_t> scattered(int64_t total) {
  int64_t stride = total / 2 + 7;
  while (std::gcd(stride, total) != 1) ++stride;
  std::vector<int32_t> order;
  for (int64_t p = 0; p < total; ++p) order.push_back(static_cast<int32_t>(p * stride % total));
  return order;
}

struct SortedSlots {
  std::vector<int32_t> order, offset;
};

// Slot s belongs to expert s mod experts.
SortedSlots dealt(int64_t total, int32_t experts) {
  SortedSlots slots;
  for (int32_t expert = 0; expert < experts; ++expert) {
    slots.offset.push_back(static_cast<int32_t>(slots.order.size()));
    for (int64_t slot = expert; slot < total; slot += experts)
      slots.order.push_back(static_cast<int32_t>(slot));
  }
  slots.offset.push_back(static_cast<int32_t>(slots.order.size()));
  return slots;
}

SortedSlots spread_over(const std::vector<int64_t>& sizes, int64_t total) {
  SortedSlots slots{scattered(total), {0}};
  for (int64_t size : sizes) slots.offset.push_back(slots.offset.back() + static_cast<int32_t>(size));
  return slots;
}

struct Experts {
  ExpertLayer layer;
  GroupedProducts products;
  SortedSlots sorted;
  DeviceBuffer x, x16, order, offset;

  Experts(Bench& bench, int64_t hidden, int64_t intermediate, DType dtype, int32_t slots,
          const SortedSlots& sorted_)
      : layer(bench, hidden, intermediate, static_cast<int32_t>(sorted_.offset.size()) - 1, dtype),
        products(bench, layer, static_cast<int64_t>(sorted_.order.size()), slots),
        sorted(sorted_),
        x(bench.random(total() / slots * hidden, DType::kF32)),
        x16(bench.rounded(x, total() / slots, hidden, dtype)),
        order(bench.upload(sorted.order)),
        offset(bench.upload(sorted.offset)) {
    products.args.x = x.as<float>();
    products.args.x16 = x16.as<uint16_t>();
    products.args.order = order.as<int32_t>();
    products.args.offset = offset.as<int32_t>();
  }
  Experts(const Experts&) = delete;  // the arguments point into it
  Experts& operator=(const Experts&) = delete;
  int64_t total() const { return static_cast<int64_t>(sorted.order.size()); }
  double flops() const {
    return 6 * static_cast<double>(total()) *
           static_cast<double>(products.args.hidden * products.args.intermediate);
  }
};

void released_case(Bench& bench, OpCase c, const ModelShape& model, int32_t groups, int64_t total,
                   Spread spread) {
  const std::vector<int64_t> sizes = group_sizes(total, groups, spread);
  const int32_t slots = total % model.top_k == 0 ? model.top_k : 1;
  const Experts experts(bench, model.hidden, model.intermediate, DType::kBF16, slots,
                        spread_over(sizes, total));
  const auto used = static_cast<double>(groups - std::count(sizes.begin(), sizes.end(), 0));
  const auto rows = static_cast<double>(total);
  c.flops = experts.flops();
  c.bytes = 6 * used * static_cast<double>(model.hidden * model.intermediate) +
            4 * rows * static_cast<double>(model.hidden) * (1 + 1.0 / slots) +
            8 * rows * static_cast<double>(model.intermediate);
  if (model.grouped_target > 0) c.target = fmt::format("{} TFLOP/s (700 with wgmma)", model.grouped_target);
  c.out = &experts.products.out;
  c.run = [&] { bench.ops().expert_ffn(experts.products.args, bench.device()); };
  bench.run(c);
}

void released_models(Bench& bench) {
  const struct {
    int model;
    int32_t groups;
    int64_t rows;  // of a group
  } cases[] = {{0, 4, 16384}, {1, 4, 16384}, {2, 30, 4369},  {3, 64, 4096},
               {3, 128, 20},  {3, 128, 192}, {3, 128, 1024}, {3, 128, 4096}};
  for (const auto& [number, all_groups, all_rows] : cases) {
    if (skips(bench, number) || (bench.tiny() && all_rows > 192 && all_groups == 128)) continue;
    const ModelShape model = shape_of(bench, number);
    const auto groups = static_cast<int32_t>(bench.extent(all_groups, 5));
    const int64_t rows = bench.extent(all_rows, 20);
    for (Spread spread : {Spread::kUniform, Spread::kZipf, Spread::kOneEmpty, Spread::kOneGiant}) {
      bench.attempt(
          "B3", "expert_ffn",
          fmt::format("{} {} x {} rows, {}", model.name, groups, rows, spread_name(spread)),
          [&](OpCase c) { released_case(bench, std::move(c), model, groups, groups * rows, spread); });
    }
  }
}

// The same products by OpenBLAS, in host memory.
class BlasExperts {
 public:
  BlasExperts(Bench& bench, const Experts& experts)
      : args_(experts.products.args),
        sorted_(experts.sorted),
        weights_(bench.random(3 * args_.groups * args_.hidden * args_.intermediate, DType::kF32, 0.03f)),
        gate_(bench.empty(experts.total() * args_.intermediate * 4)),
        up_(bench.empty(experts.total() * args_.intermediate * 4)),
        out_(bench.empty(experts.total() * args_.hidden * 4)) {
    for (int32_t slot : sorted_.order) {
      const float* const row = args_.x + slot / args_.slots * args_.hidden;
      gathered_.insert(gathered_.end(), row, row + args_.hidden);
    }
  }

  void run() const {
    const int64_t hidden = args_.hidden, intermediate = args_.intermediate, matrix = hidden * intermediate;
    for (int64_t group = 0; group < args_.groups; ++group) {
      const int64_t first = sorted_.offset[static_cast<size_t>(group)];
      const int64_t rows = sorted_.offset[static_cast<size_t>(group) + 1] - first;
      if (rows == 0) continue;
      const float* const weights = weights_.as<float>() + 3 * group * matrix;
      const float* const x = gathered_.data() + first * hidden;
      float *const gate = gate_.as<float>() + first * intermediate, *const up = up_.as<float>() +
                                                                                first * intermediate;
      openblas_product(x, weights, gate, rows, intermediate, hidden);
      openblas_product(x, weights + matrix, up, rows, intermediate, hidden);
      for (int64_t i = 0; i < rows * intermediate; ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
      openblas_product(gate, weights + 2 * matrix, out_.as<float>() + first * hidden, rows, hidden,
                       intermediate);
    }
  }

 private:
  const ExpertFfnArgs& args_;
  const SortedSlots& sorted_;
  std::vector<float> gathered_;
  DeviceBuffer weights_, gate_, up_, out_;
};

void small_case(Bench& bench, OpCase c, const test::ExpertCase& shape) {
  const int64_t total = shape.rows * shape.slots;
  const Experts experts(bench, shape.hidden, shape.intermediate, shape.dtype, shape.slots,
                        dealt(total, shape.experts));
  std::unique_ptr<BlasExperts> blas;
  if (bench.device().kind == DeviceKind::kCpu && openblas_here()) {
    blas = std::make_unique<BlasExperts>(bench, experts);
    c.library = "OpenBLAS";
    c.baseline = [&] { blas->run(); };
  }
  const auto used = static_cast<double>(std::min<int64_t>(shape.experts, total));
  c.flops = experts.flops();
  c.bytes = 6 * used * static_cast<double>(shape.hidden * shape.intermediate) +
            8.0 * static_cast<double>(total * shape.hidden);
  c.out = &experts.products.out;
  c.run = [&] { bench.ops().expert_ffn(experts.products.args, bench.device()); };
  bench.run(c);
}

void small_shapes(Bench& bench) {
  for (test::ExpertCase shape : test::kExpertShapes) {
    shape.rows = bench.extent(shape.rows, 20);
    shape.hidden = bench.extent(shape.hidden, 64);
    shape.intermediate = bench.extent(shape.intermediate, 48);
    bench.attempt("C", "expert_ffn",
                  fmt::format("{}x{} of {}, {}x{} {}", shape.rows, shape.slots, shape.experts, shape.hidden,
                              shape.intermediate, dtype_name(shape.dtype)),
                  [&](OpCase c) { small_case(bench, std::move(c), shape); });
  }
}

}  // namespace

void bench_expert_ffn(Bench& bench) {
  released_models(bench);
  small_shapes(bench);
}

}  // namespace eep::bench
