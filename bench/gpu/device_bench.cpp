// device_bench: sampling, ceilings and the table (device_bench.h).
#include "bench/gpu/device_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <iostream>

#include "bench/gpu/cublas_library.h"
#include "experiments/program/options.h"
#include "kernels/common/error.h"

namespace eep::bench {
namespace {

constexpr int kMostSamples = 20;

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

void write(const std::string& path, const std::vector<std::string>& lines) {
  if (path.empty()) return;
  std::ofstream file(path);
  for (const std::string& line : lines) file << line << "\n";
  file.flush();
  if (!file) throw Error(ExitCode::kIo, path, "cannot write");
}

}  // namespace

ModelShape shape_of(const ModelShape& model, bool tiny) {
  if (!tiny) return model;
  ModelShape small = model;
  small.hidden = 64;
  small.intermediate = 48;
  small.experts = std::min(model.experts, 12);
  small.top_k = std::min(model.top_k, 3);
  small.heads = 4;
  small.kv_heads = 2;
  small.head_dim = 32;
  return small;
}

DeviceBench::DeviceBench(const BenchOptions& options) : options_(options) {
  CommonOptions common;
  common.device_name = options.device;
  common.threads = options.threads;
  common.resolve();
  ops_ = common.ops;
  device_ = common.device;
  if (options_.list) return;
  device_text_ = device_.kind == DeviceKind::kCuda ? cuda_device_text(device_.index) : ops_->name;
  evict_ = empty(small() ? 1 << 10 : 256 << 20);
  const bool known = ResultTable::read_ceilings(options_.csv, device_text_, ceilings_);
  table_ = std::make_unique<ResultTable>(options_.csv, device_text_);
  if (!known) {
    ceilings_ = measure_ceilings(*this, small());
    table_->append(ceilings_);
  }
  if (device_.kind == DeviceKind::kCuda) std::cout << "cuBLAS: " << cublas_libraries().where << std::endl;
  markdown_.push_back(ResultTable::markdown_heading(device_text_, ceilings_, small()));
  std::cout << markdown_.back() << std::endl;
}

DeviceBuffer DeviceBench::empty(int64_t bytes) const {
  return DeviceBuffer({*ops_, device_}, static_cast<size_t>(bytes));
}

DeviceBuffer DeviceBench::random(int64_t count, DType dtype, float scale) {
  DeviceBuffer memory = empty(count * static_cast<int64_t>(dtype_size(dtype)));
  ops_->noise({memory.data(), dtype, count, 20, next_stream_++, scale}, device_);
  return memory;
}

DeviceBuffer DeviceBench::random_matrix(int64_t n, int64_t k, float scale) {
  const size_t bytes = ops_->packed_bytes(n, k, DType::kBF16);
  return random(static_cast<int64_t>(bytes / dtype_size(weights())), weights(), scale);
}

DeviceBuffer DeviceBench::rounded(const DeviceBuffer& x, int64_t rows, int64_t width) {
  if (ops_->round_rows == nullptr) return {};
  DeviceBuffer memory = empty(2 * rows * row_stride_16bit(width));
  ops_->round_rows({x.as<float>(), rows, width, weights(), memory.as<uint16_t>()}, device_);
  return memory;
}

DeviceBuffer DeviceBench::upload(const std::vector<int32_t>& values) const {
  DeviceBuffer memory = empty(static_cast<int64_t>(values.size()) * 4);
  ops_->upload(memory.data(), values.data(), values.size() * 4, device_);
  return memory;
}

double DeviceBench::sample(const std::function<void()>& work) {
  ops_->clear(evict_.data(), evict_.bytes(), device_);
  return ops_->seconds(work, device_);
}

std::vector<double> DeviceBench::samples(const std::function<void()>& work) {
  std::vector<double> seconds;
  if (small()) {
    seconds.push_back(sample(work));
    return seconds;
  }
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const auto begin = now();
  while (seconds.size() < 5 || (seconds.size() < kMostSamples &&
                                std::chrono::duration<double>(now() - begin).count() < options_.seconds)) {
    seconds.push_back(sample(work));
  }
  return seconds;
}

// Of the first 64 MiB: enough to see a difference, and quick.
uint64_t DeviceBench::digest(const DeviceBuffer& memory) const {
  std::vector<uint32_t> words(std::min(memory.bytes(), size_t{64} << 20) / 4);
  ops_->download(words.data(), memory.data(), words.size() * 4, device_);
  uint64_t hash = 14695981039346656037ull;
  for (uint32_t word : words) hash = (hash ^ word) * 1099511628211ull;
  return hash;
}

bool DeviceBench::asked(const std::string& id, const std::string& op, const std::string& shape) {
  const std::string name = id + " " + op + " " + shape;
  return name.find(filter_) != std::string::npos && done_.insert(name).second;
}

void DeviceBench::run_filters(const std::function<void()>& all) {
  for (const std::string& filter : options_.filters) {
    filter_ = filter;
    all();
  }
}

void DeviceBench::add(const ResultRow& row) {
  table_->append(row);
  markdown_.push_back(ResultTable::markdown(row));
  std::cout << markdown_.back() << std::endl;
}

void DeviceBench::attempt(const std::string& id, const std::string& op, const std::string& shape,
                          const std::function<void(OpCase)>& body) {
  if (!asked(id, op, shape)) return;
  if (options_.list) {
    std::cout << id << " " << op << " " << shape << "\n";
    return;
  }
  OpCase c;
  c.id = id;
  c.op = op;
  c.shape = shape;
  try {
    body(std::move(c));
  } catch (const Error& error) {
    ResultRow row;
    row.id = id;
    row.op = op;
    row.shape = shape;
    row.note = std::string("not run: ") + error.what();
    add(row);
  }
}

void DeviceBench::run(const OpCase& c) {
  c.run();
  const uint64_t first = c.out != nullptr ? digest(*c.out) : 0;
  const std::vector<double> times = samples(c.run);
  const bool same = c.out == nullptr || digest(*c.out) == first;
  const double typical = quantile(times, 0.5);
  ResultRow row;
  row.id = c.id;
  row.op = c.op;
  row.shape = c.shape;
  row.target = c.target;
  row.median_us = typical * 1e6;
  row.iqr_percent = (quantile(times, 0.75) - quantile(times, 0.25)) / typical * 100;
  row.gflop = c.flops / 1e9;
  row.tflop_per_s = c.flops / typical / 1e12;
  row.gb = c.bytes / 1e9;
  row.gb_per_s = c.bytes / typical / 1e9;
  double roof = c.bytes / ceilings_.copy;
  if (ceilings_.products() > 0) roof = std::max(roof, c.flops / ceilings_.products());
  row.roof_us = roof * 1e6;
  row.roof_percent = roof / typical * 100;
  if (c.baseline) {
    c.baseline();  // its first call loads kernels
    row.times_library = quantile(samples(c.baseline), 0.5) / typical;
  }
  if (c.out != nullptr) row.bitwise = same ? "same" : "DIFFERENT";
  add(row);
  differed_ = differed_ || !same;
}

void DeviceBench::note(const std::string& id, const std::string& op, const std::string& shape,
                       const std::function<std::string()>& text) {
  if (!asked(id, op, shape)) return;
  ResultRow row;
  row.id = "note";
  row.op = op;
  row.shape = shape;
  row.note = text();
  table_->append(row);
  notes_.push_back(row.note);
  std::cout << row.note << std::endl;
}

int DeviceBench::finish() const {
  std::vector<std::string> page = markdown_;
  for (const std::string& line : notes_) page.push_back("\n" + line);
  write(options_.markdown, page);
  if (differed_) std::cout << "two runs of a case differ" << std::endl;
  return differed_ ? 1 : 0;
}

}  // namespace eep::bench
