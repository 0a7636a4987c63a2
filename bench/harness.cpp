// The backend and its arrays, a case, and the end of a run (harness.h).
#include "bench/harness.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iostream>

#include "bench/gpu/cublas_library.h"
#include "experiments/program/options.h"
#include "kernels/common/error.h"
#include "kernels/cpu/cpu_target.h"

namespace eep::bench {
namespace {

void write(const std::string& path, const std::vector<std::string>& lines) {
  if (path.empty()) return;
  std::ofstream file(path);
  for (const std::string& line : lines) file << line << "\n";
  file.flush();
  if (!file) throw Error(ExitCode::kIo, path, "cannot write");
}

double geometric_mean(const std::vector<double>& values) {
  double sum = 0;
  for (double value : values) sum += std::log(value);
  return std::exp(sum / static_cast<double>(values.size()));
}

}  // namespace

Bench::Bench(const BenchOptions& options) : options_(options) {
  CommonOptions common;
  common.device_name = options.device;
  common.threads = options.threads;
  common.cpu_target = options.cpu_target;
  common.resolve();
  ops_ = common.ops;
  device_ = common.device;
  if (options_.list) return;
  device_text_ = device_.kind == DeviceKind::kCuda  ? cuda_device_text(device_.index)
                 : device_.kind == DeviceKind::kCpu ? std::string(ops_->name) + ", " + cpu_target()
                                                    : ops_->name;
  if (!options_.compare.empty()) earlier_ = ResultTable::read(options_.compare);
  options_.sampling.once = small();
  sampler_ = std::make_unique<Sampler>(Backend(*ops_, device_), options_.sampling);
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

DeviceBuffer Bench::empty(int64_t bytes) const {
  return DeviceBuffer({*ops_, device_}, static_cast<size_t>(bytes));
}

DeviceBuffer Bench::random(int64_t count, DType dtype, float scale) {
  DeviceBuffer memory = empty(count * static_cast<int64_t>(dtype_size(dtype)));
  ops_->noise({memory.data(), dtype, count, 20, next_stream_++, scale}, device_);
  return memory;
}

DeviceBuffer Bench::upload(const std::vector<int32_t>& values) const {
  DeviceBuffer memory = empty(static_cast<int64_t>(values.size()) * 4);
  ops_->upload(memory.data(), values.data(), values.size() * 4, device_);
  return memory;
}

DeviceBuffer Bench::copy(const DeviceBuffer& from) const {
  DeviceBuffer to = empty(static_cast<int64_t>(from.bytes()));
  copy_into(to, from);
  return to;
}

void Bench::copy_into(const DeviceBuffer& to, const DeviceBuffer& from) const {
  ops_->copy(to.data(), from.data(), from.bytes(), device_);
}

DeviceBuffer Bench::random_matrix(int64_t n, int64_t k, DType dtype, float scale) {
  const size_t bytes = ops_->packed_bytes(n, k, dtype);
  return random(static_cast<int64_t>(bytes / dtype_size(weights(dtype))), weights(dtype), scale);
}

PackedMatrix Bench::packed(const DeviceBuffer& matrix, int64_t n, int64_t k, DType dtype) const {
  return {matrix.data(), weights(dtype), n, k};
}

DeviceBuffer Bench::rounded(const DeviceBuffer& x, int64_t rows, int64_t width, DType dtype) const {
  if (ops_->round_rows == nullptr) return {};
  DeviceBuffer memory = empty(2 * rows * row_stride_16bit(width));
  ops_->round_rows({x.as<float>(), rows, width, weights(dtype), memory.as<uint16_t>()}, device_);
  return memory;
}

// Of the first 64 MiB: enough to see a difference, and quick.
uint64_t Bench::digest(const DeviceBuffer& memory) const {
  std::vector<uint32_t> words(std::min(memory.bytes(), size_t{64} << 20) / 4);
  ops_->download(words.data(), memory.data(), words.size() * 4, device_);
  uint64_t hash = 14695981039346656037ull;
  for (uint32_t word : words) hash = (hash ^ word) * 1099511628211ull;
  return hash;
}

bool Bench::asked(const std::string& id, const std::string& op, const std::string& shape) {
  const std::string name = id + " " + op + " " + shape;
  return name.find(filter_) != std::string::npos && done_.insert(name).second;
}

void Bench::run_filters(const std::function<void()>& all) {
  for (const std::string& filter : options_.filters) {
    filter_ = filter;
    all();
  }
}

void Bench::add(const ResultRow& row) {
  table_->append(row);
  markdown_.push_back(ResultTable::markdown(row));
  std::cout << markdown_.back() << std::endl;
}

void Bench::attempt(const std::string& id, const std::string& op, const std::string& shape,
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

void Bench::run(const OpCase& c) {
  const auto result = [&] {
    if (c.restore) c.restore();
    c.run();
    return c.out != nullptr ? digest(*c.out) : 0;
  };
  const uint64_t first = result();
  if (c.baseline) c.baseline();  // its first call loads kernels
  const Timing time = sampler_->time(c.run, c.baseline, c.flops);
  const bool same = c.out == nullptr || (c.restore ? result() : digest(*c.out)) == first;
  ResultRow row;
  row.id = c.id;
  row.op = c.op;
  row.shape = c.shape;
  row.target = c.target;
  row.median_us = time.median * 1e6;
  row.min_us = time.best * 1e6;
  row.iqr_percent = time.spread * 100;
  row.gflop = c.flops / 1e9;
  row.tflop_per_s = c.flops / time.median / 1e12;
  row.gb = c.bytes / 1e9;
  row.gb_per_s = c.bytes / time.median / 1e9;
  double roof = c.bytes / ceilings_.copy;
  const double products = ceilings_.products(device_.threads);
  if (products > 0) roof = std::max(roof, c.flops / products);
  row.roof_us = roof * 1e6;
  row.roof_percent = roof / time.median * 100;
  row.fma_percent = time.share_of_peak * 100;
  row.times_library = time.times_baseline;
  row.library = c.library;
  if (c.baseline) times_library_[c.library].push_back(time.times_baseline);
  if (c.out != nullptr) row.bitwise = same ? "same" : "DIFFERENT";
  add(row);
  compare(row);
  differed_ = differed_ || !same;
}

// Slower by more than the noise of both.
void Bench::compare(const ResultRow& row) {
  for (const ResultRow& before : earlier_) {
    if (before.id != row.id || before.op != row.op || before.shape != row.shape) continue;
    const double noise = (row.iqr_percent + before.iqr_percent) / 100;
    const bool slower = row.median_us > before.median_us * (1 + noise);
    ++compared_;
    slower_ += slower;
    std::cout << fmt::format("  {} {:.1f} us before", slower ? "FAIL" : "PASS", before.median_us)
              << std::endl;
  }
}

void Bench::note(const std::string& id, const std::string& op, const std::string& shape,
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

int Bench::finish() const {
  if (options_.list) return 0;
  std::vector<std::string> page = markdown_;
  for (const std::string& line : notes_) page.push_back("\n" + line);
  for (const auto& [library, ratios] : times_library_) {
    page.push_back(fmt::format("\n{:.2f} x {}, the geometric mean of {} cases.", geometric_mean(ratios),
                               library, ratios.size()));
    std::cout << page.back() << std::endl;
  }
  write(options_.markdown, page);
  if (!options_.compare.empty())
    std::cout << fmt::format("{}: {} cases compared, {} slower", options_.compare, compared_, slower_)
              << std::endl;
  if (differed_) std::cout << "two runs of a case differ" << std::endl;
  return differed_ || slower_ > 0 ? 1 : 0;
}

}  // namespace eep::bench
