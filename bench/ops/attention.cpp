// attention, causal. B6: equal sequences, lengths spread log-normally, a prefix shared by eight branches,
// decode. C: prefill of short sequences, of long ones, and decode rows over a cache. Flops count what is
// visible.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/ops/ops.h"
#include "tests/kernels/cases.h"

namespace eep::bench {
namespace {

struct Heads {
  int64_t heads, kv_heads, head_dim;
};

struct Sequence {
  int64_t length;   // of its own rows
  int64_t prefix;   // rows of a prefix that all sequences share
  int64_t queries;  // its last rows
};

void attention_case(Bench& bench, OpCase c, const Heads& shape, const std::vector<Sequence>& sequences) {
  const int64_t width = shape.heads * shape.head_dim, kv_width = shape.kv_heads * shape.head_dim;
  int64_t keys = 0, queries = 0;
  for (const Sequence& sequence : sequences) {
    keys += sequence.length;
    queries += sequence.queries;
  }
  const int64_t prefix = sequences[0].prefix;
  const DeviceBuffer q = bench.random(queries * width, DType::kF32), out = bench.empty(queries * width * 4);
  const DeviceBuffer k = bench.random((prefix + keys) * kv_width, DType::kF32),
                     v = bench.random((prefix + keys) * kv_width, DType::kF32);
  std::vector<AttentionRun> runs;
  std::vector<KvSpan> spans;
  int64_t row = 0, key = prefix;
  double visible = 0;
  for (const Sequence& sequence : sequences) {
    const int64_t first = prefix + sequence.length - sequence.queries;
    runs.push_back({row, sequence.queries, first, static_cast<int64_t>(spans.size()), prefix > 0 ? 2 : 1});
    if (prefix > 0) spans.push_back({k.as<float>(), v.as<float>(), prefix});
    spans.push_back({k.as<float>() + key * kv_width, v.as<float>() + key * kv_width, sequence.length});
    for (int64_t i = 0; i < sequence.queries; ++i) visible += static_cast<double>(first + i + 1);
    row += sequence.queries;
    key += sequence.length;
  }
  AttentionArgs args;
  args.q = q.as<float>();
  args.runs = runs.data();
  args.run_count = static_cast<int64_t>(runs.size());
  args.spans = spans.data();
  args.heads = shape.heads;
  args.kv_heads = shape.kv_heads;
  args.head_dim = shape.head_dim;
  args.scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  args.out = out.as<float>();
  c.flops = 4 * visible * static_cast<double>(width);
  c.bytes = 8.0 * static_cast<double>(queries * width + (prefix + keys) * kv_width);
  c.out = &out;
  c.run = [&] { bench.ops().attention(args, bench.device()); };
  bench.run(c);
}

// exp(mean + 0.4 z), with the mean of the lengths at `typical`.
std::vector<Sequence> log_normal(int64_t total, double typical) {
  std::vector<Sequence> sequences;
  int64_t sum = 0;
  for (uint32_t i = 0; sum < total; ++i) {
    const auto word = philox({i, 0, 0, 6}, 23);
    const int64_t length = std::max<int64_t>(
        1, static_cast<int64_t>(typical * std::exp(0.4 * philox_normal(word[0], word[1]) - 0.08)));
    sequences.push_back({length, 0, length});
    sum += length;
  }
  return sequences;
}

void released_models(Bench& bench) {
  const int64_t total = bench.tiny() ? 70 : 32768;
  for (int number : {0, 2, 3}) {
    if (skips(bench, number)) continue;
    const ModelShape model = shape_of(bench, number);
    const auto add = [&](const std::string& what, const std::vector<Sequence>& sequences) {
      bench.attempt(
          "B6", "attention",
          fmt::format("{} heads {}/{} x {}, {}", model.name, model.heads, model.kv_heads, model.head_dim,
                      what),
          [&](OpCase c) {
            attention_case(bench, std::move(c), {model.heads, model.kv_heads, model.head_dim}, sequences);
          });
    };
    for (int64_t full : {64, 512, 2048}) {
      const int64_t length = bench.tiny() ? full / 32 : full;
      add(fmt::format("{} x {}", total / length, length),
          std::vector<Sequence>(static_cast<size_t>(total / length), {length, 0, length}));
    }
    add(fmt::format("{} rows, log-normal 0.4 around {}", total, bench.tiny() ? 20 : 512),
        log_normal(total, bench.tiny() ? 20 : 512));
    const int64_t prefix = bench.tiny() ? 33 : 448, branch = bench.tiny() ? 5 : 64;
    add(fmt::format("8 branches of {} after {}", branch, prefix),
        std::vector<Sequence>(8, {branch, prefix, branch}));
    const int64_t lanes = bench.tiny() ? 3 : 4096, context = bench.tiny() ? 20 : 512;
    add(fmt::format("decode, {} sequences of {}", lanes, context),
        std::vector<Sequence>(static_cast<size_t>(lanes), {context, 0, 1}));
  }
}

void small_shapes(Bench& bench) {
  for (test::AttentionShape shape : test::kAttentionShapes) {
    shape.runs = bench.extent(shape.runs, 3);
    shape.queries = bench.extent(shape.queries, 9);
    shape.length = bench.extent(shape.length, shape.queries == 1 ? 21 : 9);
    shape.head_dim = bench.extent(shape.head_dim, 32);
    const std::vector<Sequence> sequences(static_cast<size_t>(shape.runs), {shape.length, 0, shape.queries});
    bench.attempt(
        "C", "attention",
        fmt::format("{} runs {} of {} heads {}/{}x{}", shape.runs, shape.queries, shape.length, shape.heads,
                    shape.kv_heads, shape.head_dim),
        [&](OpCase c) {
          attention_case(bench, std::move(c), {shape.heads, shape.kv_heads, shape.head_dim}, sequences);
        });
  }
}

}  // namespace

void bench_attention(Bench& bench) {
  released_models(bench);
  small_shapes(bench);
}

}  // namespace eep::bench
