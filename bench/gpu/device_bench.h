// What the benchmarks of a backend's ops share: the backend, arrays in its memory, ceilings, and the table.
//
// A sample is the device's own time (events on a GPU) for one call after the L2 cache was overwritten; the
// median of the samples counts. Data is random: zeros draw less power and run faster. Ceilings are measured
// in the same run (ceilings.h), or come from the CSV file that an earlier run of it began. The roof of a case
// is the larger of flops / product rate and bytes / copy rate.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bench/gpu/ceilings.h"
#include "bench/gpu/result_table.h"
#include "engine/device_buffer.h"
#include "engine/ops.h"

namespace eep::bench {

struct OpCase {
  std::string id;  // B1 .. B6 of the plan of benchmarks
  std::string op;  // the contract that is timed
  std::string shape;
  double flops = 0;
  double bytes = 0;    // read and written at least once
  std::string target;  // what an H100 80GB should reach, "" where nothing is set
  std::function<void()> run;
  const DeviceBuffer* out = nullptr;    // what run leaves: compared bit for bit between runs
  std::function<void()> baseline = {};  // the toolkit's library on the same shape
};

struct BenchOptions {
  std::string device = "cpu", csv, markdown;
  std::vector<std::string> filters = {""};  // the order of the cases; each runs once
  double seconds = 0.3;                     // a case at least, 20 samples at most
  bool list = false;                        // name the cases, run none
  bool tiny = false;                        // every extent small: the code runs, times mean nothing
  int threads = 1;
};

class DeviceBench {
 public:
  explicit DeviceBench(const BenchOptions& options);
  DeviceBench(const DeviceBench&) = delete;
  DeviceBench& operator=(const DeviceBench&) = delete;

  const Ops& ops() const { return *ops_; }
  const Device& device() const { return device_; }
  bool tiny() const { return options_.tiny; }
  // --tiny takes the first and the last model alone.
  bool skips(int model) const { return tiny() && (model == 1 || model == 2); }
  const Ceilings& ceilings() const { return ceilings_; }
  DType weights() const { return ops_->weight_dtype(DType::kBF16); }

  // Arrays in device memory. Random ones differ from call to call and are the same in every process.
  DeviceBuffer empty(int64_t bytes) const;
  DeviceBuffer random(int64_t count, DType dtype, float scale = 1);
  DeviceBuffer rounded(const DeviceBuffer& x, int64_t rows, int64_t width);  // as products read x, or nothing
  DeviceBuffer upload(const std::vector<int32_t>& values) const;
  DeviceBuffer random_matrix(int64_t n, int64_t k, float scale = 1);  // in the backend's layout of weights

  // Runs `all`, which attempts every case, once for each filter.
  void run_filters(const std::function<void()>& all);
  // Makes the data of a case and runs it, if the filter asks for it. What does not fit the memory becomes a
  // line of the table; two runs that differ are an error.
  void attempt(const std::string& id, const std::string& op, const std::string& shape,
               const std::function<void(OpCase)>& body);
  void run(const OpCase& c);
  // A line below the table, of the cases with that id and op, if the filter asks for it.
  void note(const std::string& id, const std::string& op, const std::string& shape,
            const std::function<std::string()>& text);
  int finish() const;  // writes the Markdown file; the exit status

 private:
  bool small() const { return tiny() || device_.kind == DeviceKind::kSimt; }
  bool asked(const std::string& id, const std::string& op, const std::string& shape);
  void add(const ResultRow& row);
  double sample(const std::function<void()>& work);
  std::vector<double> samples(const std::function<void()>& work);
  uint64_t digest(const DeviceBuffer& memory) const;

  BenchOptions options_;
  const Ops* ops_ = nullptr;
  Device device_;
  std::string device_text_;
  Ceilings ceilings_;
  DeviceBuffer evict_;
  uint32_t next_stream_ = 1;
  std::string filter_;
  std::set<std::string> done_;
  bool differed_ = false;
  std::unique_ptr<ResultTable> table_;
  std::vector<std::string> markdown_, notes_;
};

// Extents of the experts and the attention of released models.
struct ModelShape {
  const char* name;
  int64_t hidden, intermediate;
  int32_t experts, top_k;
  int64_t heads, kv_heads, head_dim;
  double grouped_target, block_target;  // TFLOP/s on an H100 80GB, 0: none is set
};
inline constexpr ModelShape kModels[] = {{"Mixtral-8x7B", 4096, 14336, 8, 2, 32, 8, 128, 450, 660},
                                         {"Mixtral-8x22B", 6144, 16384, 8, 2, 48, 8, 128, 0, 0},
                                         {"Qwen1.5-MoE-A2.7B", 2048, 1408, 60, 4, 16, 16, 128, 0, 0},
                                         {"Qwen3-30B-A3B", 2048, 768, 128, 8, 32, 4, 128, 0, 520}};
inline constexpr int kModelCount = 4;
// The same with small extents, for --tiny.
ModelShape shape_of(const ModelShape& model, bool tiny);

void bench_merge(DeviceBench& bench);      // B1
void bench_products(DeviceBench& bench);   // B2
void bench_experts(DeviceBench& bench);    // B3
void bench_mixture(DeviceBench& bench);    // B4
void bench_routing(DeviceBench& bench);    // B5
void bench_attention(DeviceBench& bench);  // B6

}  // namespace eep::bench
