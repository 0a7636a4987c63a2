// attention: causal grouped-query attention of runs of query rows over keys and values that lie in spans.
//   out[q] = sum_p softmax_p(q . k_p * scale) v_p  over positions p in (position(q) - window, position(q)].
//
// A run is a stretch of consecutive tokens of one sequence. Its spans cover the positions 0 .. last query
// position in order: ancestors in the prompt trie, a KV cache, and the run's own rows are all just spans, so
// prefill and decode are one op. Keys are reduced in blocks of fixed absolute positions, in ascending order:
// the bits of a row depend on its position, q, keys and values alone, never on how the sequence was cut into
// runs and spans.
#pragma once

#include <cassert>

#include "kernels/common/device.h"
#include "kernels/common/tensor.h"

namespace eep {

struct KvSpan {
  const float* k = nullptr;  // [rows, kv_heads, head_dim], rotary embedding applied
  const float* v = nullptr;  // [rows, kv_heads, head_dim]
  int64_t rows = 0;
};

struct AttentionRun {
  int64_t query_begin = 0;  // first row in q and out
  int64_t query_rows = 0;
  int64_t first_position = 0;  // position of the first query row
  int64_t span_begin = 0;      // into AttentionArgs::spans
  int64_t span_count = 0;      // the spans' rows sum to first_position + query_rows
};

struct AttentionArgs {
  const float* q = nullptr;            // [rows, heads, head_dim], rotary embedding applied
  const AttentionRun* runs = nullptr;  // [run_count]
  int64_t run_count = 0;
  const KvSpan* spans = nullptr;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads
  int64_t head_dim = 0;
  int64_t window = 0;    // 0: none; else a query sees the last `window` positions, itself included
  float scale = 0;       // head_dim^-0.5
  float* out = nullptr;  // [rows, heads, head_dim]
};

// Where asserts are on: what no caller of ours passes.
inline void check([[maybe_unused]] const AttentionArgs& args) {
  assert(args.run_count == 0 ||
         (args.q != nullptr && args.runs != nullptr && args.spans != nullptr && args.out != nullptr));
  assert(args.kv_heads > 0 && args.heads % args.kv_heads == 0 && args.head_dim > 0 && args.window >= 0);
  for (int64_t i = 0; i < args.run_count; ++i) {
    [[maybe_unused]] const AttentionRun& run = args.runs[i];
    assert(run.query_begin >= 0 && run.query_rows >= 0 && run.first_position >= 0 && run.span_begin >= 0 &&
           run.span_count >= 0);
  }
}

void attention_cpu(const AttentionArgs& args, const Device& device);

// On a GPU q, out and what the spans point to are device memory; runs and spans are host memory.
void attention_simt(const AttentionArgs& args, const Device& device);
void attention_cuda(const AttentionArgs& args, const Device& device);

}  // namespace eep
