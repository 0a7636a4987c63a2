// Runs every op of the CPU backend on fixed data, on every target of the machine, and prints one hash an op
// and target. Built for x86 and, without Highway's library, for aarch64; all lines of an op must show the
// same hash.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/attention.h"
#include "kernels/combine.h"
#include "kernels/common/float16.h"
#include "kernels/cpu/cpu_target.h"
#include "kernels/dispatch.h"
#include "kernels/embed.h"
#include "kernels/expert_ffn.h"
#include "kernels/expert_merge.h"
#include "kernels/expert_stats.h"
#include "kernels/gemm.h"
#include "kernels/gemm_bf16.h"
#include "kernels/noise.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "kernels/router.h"
#include "kernels/score.h"

namespace {

using namespace eep;
using Floats = std::vector<float>;

constexpr int64_t kRows = 45, kHidden = 52, kIntermediate = 71, kVocabulary = 601;
constexpr int64_t kHeads = 4, kKvHeads = 2, kHeadDim = 13;
constexpr int32_t kExperts = 7, kKept = 5, kSlots = 3;

// FNV-1a over bytes.
template <typename T>
uint64_t hash(const std::vector<T>& values) {
  uint64_t h = 0xcbf29ce484222325u;
  const unsigned char* bytes = reinterpret_cast<const unsigned char*>(values.data());
  for (size_t i = 0; i < values.size() * sizeof(T); ++i) h = (h ^ bytes[i]) * 0x100000001b3u;
  return h;
}

Floats normals(uint32_t stream, int64_t count) {
  Floats values;
  for (uint32_t i = 0; i < static_cast<uint32_t>(count); ++i) {
    const auto word = philox({i, stream, 0, 0}, 2026);
    values.push_back(static_cast<float>(philox_normal(word[0], word[1])));
  }
  return values;
}

std::vector<int32_t> integers(uint32_t stream, int64_t count, uint32_t below) {
  std::vector<int32_t> values;
  for (uint32_t i = 0; i < static_cast<uint32_t>(count); ++i) {
    values.push_back(static_cast<int32_t>(philox({i, stream, 1, 0}, 2026)[0] % below));
  }
  return values;
}

std::vector<char> narrowed(const Floats& values, DType dtype) {
  std::vector<char> bytes(values.size() * dtype_size(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t bits = dtype == DType::kBF16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
    if (dtype == DType::kF32) {
      std::memcpy(&bytes[4 * i], &values[i], 4);
    } else {
      std::memcpy(&bytes[2 * i], &bits, 2);
    }
  }
  return bytes;
}

struct Weights {
  Buffer buffer;
  PackedMatrix packed;

  Weights(uint32_t stream, int64_t n, int64_t k, DType dtype) : buffer(gemm_packed_bytes(n, k, dtype)) {
    packed = gemm_pack_cpu(narrowed(normals(stream, n * k), dtype).data(), n, k, k, 1, dtype, buffer.data());
  }
};

void report(const char* op, uint64_t value) {
  std::printf("%-14s %016llx %s\n", op, static_cast<unsigned long long>(value), cpu_target().c_str());
}

void run_rows(const Device& device) {
  const Floats x = normals(1, kRows * kHidden), weight = normals(2, kHidden);
  Floats out(x.size());
  rmsnorm_cpu({x.data(), kRows, kHidden, weight.data(), 1e-6f, out.data()}, device);
  report("rmsnorm", hash(out));

  const std::vector<int32_t> token = integers(3, kRows, 20);
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const std::vector<char> table = narrowed(normals(4, 20 * kHidden), dtype);
    EmbedArgs args;
    args.table = Tensor(table.data(), dtype, {20, kHidden});
    args.token = token.data();
    args.rows = kRows;
    args.out = out.data();
    embed_cpu(args, device);
    report(dtype == DType::kF32 ? "embed.f32" : dtype == DType::kF16 ? "embed.f16" : "embed.bf16", hash(out));
  }
}

void run_gemm(const Device& device) {
  const Floats x = normals(5, kRows * 300);
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Weights w(6, kIntermediate, 300, dtype);
    Floats out(kRows * kIntermediate);
    GemmArgs args;
    args.x = x.data();
    args.rows = kRows;
    args.w = w.packed;
    args.out = out.data();
    args.out_stride = kIntermediate;
    gemm_cpu(args, device);
    report(dtype == DType::kF32 ? "gemm.f32" : dtype == DType::kF16 ? "gemm.f16" : "gemm.bf16", hash(out));
  }
}

// Precision bf16: of usual sizes, and so small that sums are denormal and count as zeros.
void run_gemm_bf16(const Device& device) {
  for (const float scale : {1.0f, 0x1p-62f}) {
    Floats x = normals(5, kRows * 300), source = normals(6, kIntermediate * 300);
    for (float& value : x) value *= scale;
    for (float& value : source) value *= scale;
    Buffer buffer(gemm_bf16_packed_bytes(kIntermediate, 300, DType::kF32));
    Floats out(kRows * kIntermediate);
    GemmArgs args;
    args.x = x.data();
    args.rows = kRows;
    args.w = gemm_bf16_pack_cpu(source.data(), kIntermediate, 300, 300, 1, DType::kF32, buffer.data());
    args.out = out.data();
    args.out_stride = kIntermediate;
    gemm_bf16_cpu(args, device);
    report(scale == 1.0f ? "gemm_bf16" : "gemm_bf16.tiny", hash(out));
  }
}

void run_attention(const Device& device) {
  Floats q = normals(7, 150 * kHeads * kHeadDim);
  const Floats k = normals(8, 150 * kKvHeads * kHeadDim), v = normals(9, 150 * kKvHeads * kHeadDim);
  const RopeTable table = rope_table(150, kHeadDim - 1, 1e4);
  report("rope_table", hash(table.cosine) ^ hash(table.sine));
  std::vector<int32_t> position(150);
  std::iota(position.begin(), position.end(), 0);
  RopeArgs rope;
  rope.x = q.data();
  rope.rows = 150;
  rope.heads = kHeads;
  rope.head_dim = kHeadDim - 1;
  rope.position = position.data();
  rope.cosine = table.cosine.data();
  rope.sine = table.sine.data();
  rope_cpu(rope, device);
  report("rope", hash(q));
  const Floats sinks = normals(16, kHeads);
  for (const char* name : {"attention", "attention.win", "attention.sink"}) {
    const int64_t window = name == std::string("attention.win") ? 70 : 0;
    Floats out(q.size());
    const KvSpan span{k.data(), v.data(), 150};
    AttentionRun run;
    run.query_rows = 150;
    run.span_count = 1;
    AttentionArgs args;
    args.q = q.data();
    args.runs = &run;
    args.run_count = 1;
    args.spans = &span;
    args.heads = kHeads;
    args.kv_heads = kKvHeads;
    args.head_dim = kHeadDim;
    args.window = window;
    if (name == std::string("attention.sink")) args.sinks = sinks.data();
    args.scale = 0.3f;
    args.out = out.data();
    attention_cpu(args, device);
    report(name, hash(out));
  }
}

void run_experts(const Device& device) {
  const Floats x = normals(10, kRows * kHidden), matrix = normals(11, kKept * kExperts);
  const Weights gate(12, kExperts, kHidden, DType::kBF16);
  const std::vector<int32_t> kept = {6, 0, 2, 3, 5}, map_of_row = integers(13, kRows, 4);
  std::vector<RouterMap> maps;
  for (RouterSpace space : {RouterSpace::kLogits, RouterSpace::kProbabilities}) {
    maps.push_back({kept.data(), nullptr, kKept, kSlots, space});
    maps.push_back({nullptr, matrix.data(), kKept, kSlots - 1, space});
  }
  std::vector<int32_t> expert(kRows * kSlots), order(kRows * kSlots), offset(kKept + 1), group(kKept);
  Floats weight(kRows * kSlots), logits(kRows * kExperts);
  RouterArgs router;
  router.x = x.data();
  router.rows = kRows;
  router.gate = gate.packed;
  router.maps = maps.data();
  router.map_of_row = map_of_row.data();
  router.slots = kSlots;
  router.expert = expert.data();
  router.weight = weight.data();
  router.logits = logits.data();
  const Floats bias = normals(17, kExperts);
  router.bias = bias.data();
  router_cpu(router, device);
  report("router.bias", hash(weight) ^ hash(expert));
  router.bias = nullptr;
  router_cpu(router, device);
  report("router", hash(weight) ^ hash(expert));

  std::iota(group.begin(), group.end(), 0);
  DispatchArgs dispatch;
  dispatch.expert = expert.data();
  dispatch.rows = kRows;
  dispatch.slots = kSlots;
  dispatch.group_of = group.data();
  dispatch.groups = kKept;
  dispatch.offset = offset.data();
  dispatch.order = order.data();
  dispatch_cpu(dispatch, device);
  report("dispatch", hash(offset));

  std::vector<Weights> weights;
  std::vector<ExpertMatrices> matrices;
  for (uint32_t e = 0; e < kKept; ++e) {
    weights.emplace_back(20 + e, kIntermediate, kHidden, DType::kBF16);
    weights.emplace_back(30 + e, kIntermediate, kHidden, DType::kBF16);
    weights.emplace_back(40 + e, kHidden, kIntermediate, DType::kBF16);
  }
  for (size_t e = 0; e < kKept; ++e) {
    matrices.push_back({weights[3 * e].packed, weights[3 * e + 1].packed, weights[3 * e + 2].packed});
  }
  Floats activation(kRows * kSlots * kIntermediate), slot_out(kRows * kSlots * kHidden);
  ExpertFfnArgs ffn;
  ffn.x = x.data();
  ffn.slots = kSlots;
  ffn.order = order.data();
  ffn.offset = offset.data();
  ffn.groups = kKept;
  ffn.experts = matrices.data();
  ffn.hidden = kHidden;
  ffn.intermediate = kIntermediate;
  ffn.activation = activation.data();
  ffn.out = slot_out.data();
  std::vector<Weights> biases;  // with a limit that many values reach
  for (uint32_t e = 0; e < kKept; ++e) {
    biases.emplace_back(80 + e, kIntermediate, 1, DType::kBF16);
    biases.emplace_back(90 + e, kIntermediate, 1, DType::kBF16);
    biases.emplace_back(100 + e, kHidden, 1, DType::kBF16);
  }
  std::vector<ExpertMatrices> biased = matrices;
  for (size_t e = 0; e < kKept; ++e) {
    biased[e].gate_bias = biases[3 * e].packed;
    biased[e].up_bias = biases[3 * e + 1].packed;
    biased[e].down_bias = biases[3 * e + 2].packed;
  }
  ffn.experts = biased.data();
  ffn.limit = 2.0f;
  ffn.alpha = 1.702f;
  expert_ffn_cpu(ffn, device);
  report("expert_ffn.lim", hash(slot_out));
  ffn.experts = matrices.data();
  ffn.limit = 0;
  expert_ffn_cpu(ffn, device);
  report("expert_ffn", hash(slot_out));

  Floats residual = x;
  const Floats shared = normals(14, kRows * kHidden), shared_gate = normals(15, kRows);
  CombineArgs combine;
  combine.slot_out = slot_out.data();
  combine.weight = weight.data();
  combine.expert = expert.data();
  combine.rows = kRows;
  combine.slots = kSlots;
  combine.hidden = kHidden;
  combine.shared_out = shared.data();
  combine.shared_gate = shared_gate.data();
  combine.residual = residual.data();
  combine_cpu(combine, device);
  report("combine", hash(residual));

  std::vector<double> sums(10 * kExperts);
  const auto field = [&](int i) { return sums.data() + i * kExperts; };
  ExpertStatsArgs stats;
  stats.logits = logits.data();
  stats.expert = expert.data();
  stats.weight = weight.data();
  stats.slot_out = slot_out.data();
  stats.rows = kRows;
  stats.slots = kSlots;
  stats.experts = kExperts;
  stats.hidden = kHidden;
  stats.sums = {field(0), field(1), field(2), field(3), field(4),
                field(5), field(6), field(7), field(8), field(9)};
  expert_stats_cpu(stats, device);
  report("expert_stats", hash(sums));
}

void run_merge(const Device& device) {
  constexpr int64_t kElements = 1500;
  const Floats coefficient = normals(50, 3 * kExperts);
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    std::vector<std::vector<char>> base;
    std::vector<const void*> from;
    std::vector<char> merged(3 * kElements * dtype_size(dtype));
    std::vector<void*> to;
    for (uint32_t e = 0; e < kExperts; ++e) base.push_back(narrowed(normals(60 + e, kElements), dtype));
    for (const auto& expert : base) from.push_back(expert.data());
    for (size_t row = 0; row < 3; ++row) to.push_back(merged.data() + row * kElements * dtype_size(dtype));
    expert_merge_cpu({from.data(), kExperts, kElements, dtype, coefficient.data(), 3, to.data()}, device);
    report(dtype == DType::kF32   ? "merge.f32"
           : dtype == DType::kF16 ? "merge.f16"
                                  : "merge.bf16",
           hash(merged));
  }
}

void run_score(const Device& device) {
  const Floats x = normals(70, kRows * kHidden);
  const std::vector<int32_t> target = integers(71, kRows, kVocabulary);
  const Weights vocabulary(72, kVocabulary, kHidden, DType::kBF16);
  std::vector<TokenScore> out(kRows);
  ScoreArgs args;
  args.x = x.data();
  args.target = target.data();
  args.count = kRows;
  args.vocabulary = vocabulary.packed;
  args.out = out.data();
  score_cpu(args, device);
  report("score", hash(out));
}

}  // namespace

int main() {
  for (const std::string& target : cpu_targets()) {
    set_cpu_target(target);
    Device device;
    device.threads = 2;
    run_rows(device);
    run_gemm(device);
    run_gemm_bf16(device);
    run_attention(device);
    run_experts(device);
    run_merge(device);
    run_score(device);
  }
}
