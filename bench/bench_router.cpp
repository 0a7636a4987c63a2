// router: gate logits, one-hot and dense maps, top-k.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/router.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (const RouterCase& c : kRouterShapes) {
    for (int dense = 0; dense < 2; ++dense) {
      Data data(c.seed);
      const Floats x = data.floats(c.rows * c.hidden), matrix = data.floats(c.kept * c.experts);
      const Weights gate(data.floats(c.experts * c.hidden), c.experts, c.hidden, DType::kBF16);
      std::vector<int32_t> kept, expert(static_cast<size_t>(c.rows * c.top_k));
      for (int32_t r = 0; r < c.kept; ++r) kept.push_back(r * (c.experts / c.kept));
      const RouterMap map{dense ? nullptr : kept.data(), dense ? matrix.data() : nullptr, c.kept, c.top_k,
                          dense ? RouterSpace::kProbabilities : RouterSpace::kLogits};
      Floats weight(expert.size()), logits(static_cast<size_t>(c.rows * c.experts));
      RouterArgs args;
      args.x = x.data();
      args.rows = c.rows;
      args.gate = gate.packed;
      args.maps = &map;
      args.slots = c.top_k;
      args.expert = expert.data();
      args.weight = weight.data();
      args.logits = logits.data();
      bench::Case b;
      b.op = "router";
      b.shape = fmt::format("{}x{} {}->{} top {} {}", c.rows, c.hidden, c.experts, c.kept, c.top_k,
                            dense ? "dense" : "one-hot");
      b.flops = 2.0 * static_cast<double>(c.rows) *
                static_cast<double>(c.experts * c.hidden + dense * c.kept * c.experts);
      b.bytes = 4.0 * static_cast<double>(c.rows) * static_cast<double>(c.hidden + c.experts);
      b.threads = bench.threads();
      b.run = [&] { router_cpu(args, cpu(bench.threads())); };
      bench.run(b);
    }
  }
  return bench.finish();
}
