// attention: prefill of short sequences, of long ones, and decode rows over a cache. Flops count what is
// visible.
#include <fmt/core.h>

#include "bench/bench.h"
#include "kernels/attention.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/data.h"

using namespace eep;
using namespace eep::test;

int main(int argc, char** argv) {
  bench::Bench bench(argc, argv);

  for (const AttentionShape& c : kAttentionShapes) {
    Data data(c.seed);
    const int64_t tokens = c.runs * c.length, width = c.heads * c.head_dim,
                  kv_width = c.kv_heads * c.head_dim;
    const Floats q = data.floats(c.runs * c.queries * width);
    const Floats k = data.floats(tokens * kv_width), v = data.floats(tokens * kv_width);
    std::vector<AttentionRun> runs;
    std::vector<KvSpan> spans;
    for (int64_t run = 0; run < c.runs; ++run) {  // the last `queries` rows of a sequence of `length`
      runs.push_back({run * c.queries, c.queries, c.length - c.queries, run, 1});
      spans.push_back({k.data() + run * c.length * kv_width, v.data() + run * c.length * kv_width, c.length});
    }
    Floats out(q.size());
    AttentionArgs args;
    args.q = q.data();
    args.runs = runs.data();
    args.run_count = c.runs;
    args.spans = spans.data();
    args.heads = c.heads;
    args.kv_heads = c.kv_heads;
    args.head_dim = c.head_dim;
    args.scale = 0.2f;
    args.out = out.data();
    double visible = 0;
    for (int64_t row = 0; row < c.queries; ++row)
      visible += static_cast<double>(c.length - c.queries + row + 1);
    bench::Case b;
    b.op = "attention";
    b.shape = fmt::format("{} runs {} of {} heads {}/{}x{}", c.runs, c.queries, c.length, c.heads, c.kv_heads,
                          c.head_dim);
    b.flops = 4.0 * visible * static_cast<double>(c.runs * width);
    b.bytes = 8.0 * static_cast<double>(c.runs * c.queries * width + tokens * kv_width);
    b.threads = bench.threads();
    b.run = [&] { attention_cpu(args, cpu(bench.threads())); };
    bench.run(b);
  }
  return bench.finish();
}
