// What benchmarks share that time calls: the backend, arrays in its memory, sampling (sampling.h), ceilings
// and the table.
//
// Data is random: zeros draw less power and run faster. Ceilings are measured in the same run (ceilings.h),
// or come from the CSV file that an earlier run of it began. The roof of a case is the larger of flops /
// product rate and bytes / copy rate.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bench/ceilings.h"
#include "bench/result_table.h"
#include "bench/sampling.h"
#include "engine/device_buffer.h"
#include "engine/ops.h"

namespace eep::bench {

struct OpCase {
  std::string id;  // B1 .. B6, C (ops/ops.h)
  std::string op;  // the contract that is timed
  std::string shape;
  double flops = 0;    // 0: not stated
  double bytes = 0;    // read and written at least once
  std::string target;  // what an H100 80GB should reach, "" where nothing is set
  std::function<void()> run;
  const DeviceBuffer* out = nullptr;    // what run leaves: compared bit for bit between runs
  std::function<void()> restore = {};   // puts back what run adds to or turns in place, before it is compared
  std::function<void()> baseline = {};  // the same work by a library, or in another way
  std::string library = {};             // its name
};

struct BenchOptions {
  std::string device = "cpu", cpu_target, csv, compare, markdown;
  std::vector<std::string> filters = {""};  // the order of the cases; each runs once
  Sampling sampling;
  bool list = false;  // name the cases, run none
  bool tiny = false;  // every extent small: the code runs, times mean nothing
  int threads = 1;
};

class Bench {
 public:
  // Throws Error(kUsage) for a device, a target or a file that makes no sense.
  explicit Bench(const BenchOptions& options);
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  const Ops& ops() const { return *ops_; }
  const Device& device() const { return device_; }
  bool tiny() const { return options_.tiny; }
  // An extent of a case: at most `least` with --tiny.
  int64_t extent(int64_t whole, int64_t least) const { return tiny() && whole > least ? least : whole; }
  const Ceilings& ceilings() const { return ceilings_; }
  // What the dtype of a checkpoint's weights becomes.
  DType weights(DType dtype = DType::kBF16) const { return ops_->weight_dtype(dtype); }

  // Arrays in device memory. Random ones differ from call to call and are the same in every process.
  DeviceBuffer empty(int64_t bytes) const;
  DeviceBuffer random(int64_t count, DType dtype, float scale = 1);
  DeviceBuffer upload(const std::vector<int32_t>& values) const;
  DeviceBuffer copy(const DeviceBuffer& from) const;
  void copy_into(const DeviceBuffer& to, const DeviceBuffer& from) const;
  // Weights of a checkpoint's dtype in the backend's layout.
  DeviceBuffer random_matrix(int64_t n, int64_t k, DType dtype = DType::kBF16, float scale = 1);
  PackedMatrix packed(const DeviceBuffer& matrix, int64_t n, int64_t k, DType dtype = DType::kBF16) const;
  // x as products with such weights read it, or nothing.
  DeviceBuffer rounded(const DeviceBuffer& x, int64_t rows, int64_t width, DType dtype = DType::kBF16) const;

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
  // Means of the ratios, what the comparison says, the Markdown file; the exit status.
  int finish() const;

 private:
  bool small() const { return tiny() || device_.kind == DeviceKind::kSimt; }
  bool asked(const std::string& id, const std::string& op, const std::string& shape);
  void add(const ResultRow& row);
  void compare(const ResultRow& row);
  uint64_t digest(const DeviceBuffer& memory) const;

  BenchOptions options_;
  const Ops* ops_ = nullptr;
  Device device_;
  std::string device_text_;
  Ceilings ceilings_;
  std::unique_ptr<Sampler> sampler_;
  uint32_t next_stream_ = 1;
  std::string filter_;
  std::set<std::string> done_;
  bool differed_ = false;
  std::unique_ptr<ResultTable> table_;
  std::vector<ResultRow> earlier_;
  int compared_ = 0, slower_ = 0;
  std::map<std::string, std::vector<double>> times_library_;
  std::vector<std::string> markdown_, notes_;
};

}  // namespace eep::bench
