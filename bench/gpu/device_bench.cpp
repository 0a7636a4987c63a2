// device_bench: sampling, ceilings and the table (device_bench.h).
#include "bench/gpu/device_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iostream>

#include "bench/gpu/yardsticks.h"
#include "experiments/options.h"
#include "kernels/error.h"

namespace eep::bench {
namespace {

constexpr int kMostSamples = 20;

double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

// "2.61 TB/s" and the like; "-" for nothing.
std::string rate(double value, double unit, const char* name) {
  return value > 0 ? fmt::format("{:.3g} {}", value / unit, name) : "-";
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
  device_text_ = device_.kind == DeviceKind::kCuda ? cuda_device_text(device_.index) : ops_->name;
  evict_ = empty(tiny() || device_.kind == DeviceKind::kSimt ? 1 << 10 : 256 << 20);
  measure_ceilings();
  csv_.push_back(
      "id,op,shape,median_us,iqr_percent,gflop,tflop_per_s,gb,gb_per_s,roof_us,roof_percent,"
      "times_library,bitwise,target,device");
  markdown_.push_back(heading());
  std::cout << markdown_.back() << std::endl;
}

DeviceBuffer DeviceBench::empty(int64_t bytes) const {
  return DeviceBuffer(*ops_, device_, static_cast<size_t>(bytes));
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

DeviceBuffer DeviceBench::upload(const std::vector<int32_t>& values) const {
  DeviceBuffer memory = empty(static_cast<int64_t>(values.size()) * 4);
  ops_->upload(memory.data(), values.data(), values.size() * 4, device_);
  return memory;
}

void DeviceBench::measure_ceilings() {
  const int64_t bytes = tiny() || device_.kind == DeviceKind::kSimt ? 1 << 12 : 512 << 20;
  const DeviceBuffer from = random(bytes / 4, DType::kF32), to = empty(bytes);
  const auto best = [&](const std::function<void()>& work) {
    double seconds = 1e9;
    for (int i = 0; i < 5; ++i) seconds = std::min(seconds, ops_->seconds(work, device_));
    return seconds;
  };
  ceilings_.copy = 2.0 * static_cast<double>(bytes) /
                   best([&] { ops_->copy(to.data(), from.data(), static_cast<size_t>(bytes), device_); });
  const std::vector<char> host(static_cast<size_t>(bytes), 1);
  ceilings_.upload_pageable =
      static_cast<double>(bytes) / best([&] { ops_->upload(to.data(), host.data(), host.size(), device_); });
  ceilings_.upload_pinned = pinned_upload_rate(to.data(), to.bytes(), device_);
  if (!cublas_here(device_)) return;
  constexpr int64_t kSize = 8192;
  const DeviceBuffer x = random(kSize * kSize, DType::kBF16), w = random(kSize * kSize, DType::kBF16);
  const DeviceBuffer out = empty(kSize * kSize * 4);
  const auto times =
      samples([&] { cublas_product(x.data(), w.data(), out.data(), kSize, kSize, kSize, device_); });
  ceilings_.product = 2.0 * std::pow(static_cast<double>(kSize), 3) / quantile(times, 0.5);
}

double DeviceBench::sample(const std::function<void()>& work) {
  ops_->clear(evict_.data(), evict_.bytes(), device_);
  return ops_->seconds(work, device_);
}

std::vector<double> DeviceBench::samples(const std::function<void()>& work) {
  std::vector<double> seconds;
  if (tiny() || device_.kind == DeviceKind::kSimt) {
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

std::string DeviceBench::heading() const {
  std::string text = fmt::format("# {}\n\n", device_text_);
  if (tiny() || device_.kind == DeviceKind::kSimt) {
    text += "Small extents or the host executor: the code runs, times mean nothing.\n\n";
  }
  text += fmt::format(
      "Ceilings of this run: copy {}, cuBLAS bf16 8192^3 {}, host to device {} pinned, {} pageable.\n\n",
      rate(ceilings_.copy, 1e12, "TB/s"), rate(ceilings_.product, 1e12, "TFLOP/s"),
      rate(ceilings_.upload_pinned, 1e9, "GB/s"), rate(ceilings_.upload_pageable, 1e9, "GB/s"));
  text +=
      "| id | op | shape | median us | IQR % | GFLOP | TFLOP/s | GB | GB/s | roof us | % of roof | x cuBLAS "
      "| run to "
      "run | target |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";
  return text;
}

void DeviceBench::attempt(const std::string& id, const std::string& op, const std::string& shape,
                          const std::function<void(OpCase)>& body) {
  if ((id + " " + op + " " + shape).find(options_.filter) == std::string::npos) return;
  OpCase c;
  c.id = id;
  c.op = op;
  c.shape = shape;
  try {
    body(std::move(c));
  } catch (const Error& error) {
    markdown_.push_back(
        fmt::format("| {} | {} | {} | not run: {} ||||||||||||", id, op, shape, error.what()));
    std::cout << markdown_.back() << std::endl;
  }
}

void DeviceBench::run(const OpCase& c) {
  c.run();
  const uint64_t first = c.out != nullptr ? digest(*c.out) : 0;
  const std::vector<double> times = samples(c.run);
  const bool same = c.out == nullptr || digest(*c.out) == first;
  const double typical = quantile(times, 0.5);
  const double noise = (quantile(times, 0.75) - quantile(times, 0.25)) / typical;
  const double against = c.baseline ? quantile(samples(c.baseline), 0.5) / typical : 0;
  double roof = c.bytes / ceilings_.copy;
  if (ceilings_.product > 0) roof = std::max(roof, c.flops / ceilings_.product);
  csv_.push_back(fmt::format(
      "{},{},\"{}\",{:.2f},{:.1f},{:.4g},{:.4g},{:.4g},{:.4g},{:.2f},{:.1f},{:.3f},{},\"{}\",\"{}\"", c.id,
      c.op, c.shape, typical * 1e6, noise * 100, c.flops / 1e9, c.flops / typical / 1e12, c.bytes / 1e9,
      c.bytes / typical / 1e9, roof * 1e6, roof / typical * 100, against, same ? "same" : "DIFFERENT",
      c.target, device_text_));
  markdown_.push_back(fmt::format(
      "| {} | {} | {} | {:.1f} | {:.0f} | {:.4g} | {} | {:.3g} | {:.4g} | {:.1f} | {:.0f} | {} | {} | {} |",
      c.id, c.op, c.shape, typical * 1e6, noise * 100, c.flops / 1e9,
      c.flops > 0 ? fmt::format("{:.4g}", c.flops / typical / 1e12) : "-", c.bytes / 1e9,
      c.bytes / typical / 1e9, roof * 1e6, roof / typical * 100,
      against > 0 ? fmt::format("{:.2f}", against) : "-",
      c.out == nullptr ? "-"
      : same           ? "same bits"
                       : "DIFFERENT BITS",
      c.target));
  std::cout << markdown_.back() << std::endl;
  differed_ = differed_ || !same;
}

void DeviceBench::note(const std::string& text) { notes_.push_back(text); }

int DeviceBench::finish() const {
  std::vector<std::string> page = markdown_;
  for (const std::string& line : notes_) {
    page.push_back("\n" + line);
    std::cout << page.back() << std::endl;
  }
  write(options_.csv, csv_);
  write(options_.markdown, page);
  if (differed_) std::cout << "two runs of a case differ" << std::endl;
  return differed_ ? 1 : 0;
}

}  // namespace eep::bench
