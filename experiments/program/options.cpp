#include "experiments/program/options.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <thread>
#include <vector>

#include "engine/cuda_identity.h"
#include "experiments/program/command_line.h"
#include "experiments/ranks/launch.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/cpu/cpu_target.h"

namespace eep {
namespace {

const std::vector<std::string> kDevices{"auto", "cpu", "cuda", "cuda:N", "simt"};

int allowed_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  return ::sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

void CommonOptions::add_to(const Command& command) {
  command.option("--device", device_name, "where to compute; simt: CUDA kernels on the host, for tests")
      .shown_as(kDevices);
  command.option("--threads", threads, "CPU threads (default: all); results do not depend on it")
      .range(1, 4096);
  command.option("--memory", memory_text,
                 "bytes, or a fraction of the device's memory (default on a GPU: what is free); suffixes k, "
                 "M, G; results do not depend on it");
  command.option("--seed", seed_text, "seed of what is random").given(seed_given);
  command
      .option("--parity", parity,
              "hf: router logits and weights rounded to the checkpoint's dtype, as transformers does; eep: "
              "also W_RM, and merged experts at each step, as the code released with the paper does")
      .one_of({"none", "hf", "eep"});
  command
      .option("--precision", precision,
              "of the CPU's matrix products: f32, or bf16 with f32 sums, which is faster where the processor "
              "has a "
              "matrix unit and rounds weights and rows to bf16")
      .one_of({"f32", "bf16"});
  command.option("--log-level", log_level, "error, warn, info or debug")
      .one_of({"error", "warn", "info", "debug"});
  command.option("--cpu-target", cpu_target,
                 "instruction set of the CPU kernels (see eep doctor); results do not depend on it");
}

// Left to the driver: kernels' code and stacks, and what a device's allocator cannot give in one piece.
size_t device_limit(const DeviceMemory& memory) {
  const size_t reserve = (size_t{256} << 20) + memory.total / 64;
  return memory.free > reserve ? memory.free - reserve : 1;
}

size_t parse_memory(const std::string& text, size_t whole) {
  const auto refuse = [&] {
    throw Error(
        ExitCode::kUsage, "--memory",
        "not an amount (expected bytes, a fraction below 1, or a number with k, M or G; got " + text + ")");
  };
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const std::string suffix = end;
  if (end == text.c_str() || !std::isfinite(value) || value <= 0) refuse();
  double scale = 1;
  if (suffix == "k" || suffix == "K")
    scale = 1e3;
  else if (suffix == "M")
    scale = 1e6;
  else if (suffix == "G")
    scale = 1e9;
  else if (!suffix.empty())
    refuse();
  if (suffix.empty() && value < 1) {
    scale = static_cast<double>(whole);
  }
  const double bytes = value * scale;
  if (suffix.empty() && value >= 1 && value != std::floor(value)) refuse();  // 1.5 of what
  if (bytes < 1 || bytes > 1e18) refuse();
  return static_cast<size_t>(bytes);
}

size_t parse_memory(const std::string& text) {
  const auto machine =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  return parse_memory(text, static_cast<size_t>(machine));
}

void CommonOptions::place(int local_rank, int local_ranks) {
  local_rank_ = local_rank;
  local_ranks_ = local_ranks;
}

std::string device_text(const CommonOptions& options) {
  if (options.device.kind != DeviceKind::kCuda) return options.ops->name;
  return fmt::format("cuda:{} {}", options.device.index, cuda_device_text(options.device.index));
}

std::string device_id(const CommonOptions& options) {
  return options.device.kind == DeviceKind::kCuda ? cuda_device_id(options.device.index) : "";
}

void CommonOptions::open_device() {
  const bool numbered = device_name.starts_with("cuda:");
  int index = 0;
  if (numbered) {
    const char* const begin = device_name.data() + 5;
    const char* const end = device_name.data() + device_name.size();
    const auto [stop, error] = std::from_chars(begin, end, index);
    if (error != std::errc() || stop != end || index < 0) {
      throw Error(ExitCode::kUsage, "--device",
                  "not the number of a device" + expected_got("cuda:N", device_name));
    }
  }
  device = {};
  ops = &cpu_ops();
  if (device_name == "cuda" || numbered || (device_name == "auto" && cuda_device_count() > 0)) {
    ops = &cuda_ops();
    device = open_device_cuda(numbered ? index : device_of_rank(local_rank_, cuda_device_count()));
  } else if (device_name == "simt") {
    ops = &simt_ops();
    device.kind = DeviceKind::kSimt;
  } else if (device_name != "auto" && device_name != "cpu") {
    throw Error(
        ExitCode::kUsage, "--device",
        "unknown device" + expected_got(fmt::format("one of {}", fmt::join(kDevices, ", ")), device_name));
  }
}

Precision precision_named(const std::string& name) {
  return name == "bf16" ? Precision::kBf16 : Precision::kF32;
}

const Ops& CommonOptions::ops_with(const std::string& name) const {
  if (precision_named(name) == Precision::kF32) return *ops;
  if (!ops->host_memory) {
    throw Error(ExitCode::kConfig, "--precision",
                fmt::format("products on --device {} have the dtype of its weights", ops->name) +
                    expected_got("f32", "bf16"),
                "leave it out, or use --device cpu");
  }
  return cpu_ops(Precision::kBf16);
}

void CommonOptions::resolve() {
  int64_t number = -1;
  const auto [stop, error] = std::from_chars(seed_text.data(), seed_text.data() + seed_text.size(), number);
  if (error != std::errc() || stop != seed_text.data() + seed_text.size() || number < 0) {
    throw Error(ExitCode::kUsage, "--seed",
                "not a seed" + expected_got(fmt::format("0..{}", INT64_MAX), seed_text));
  }
  seed = static_cast<uint64_t>(number);
  open_device();
  const int online = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  device.threads = threads > 0         ? threads
                   : local_ranks_ == 0 ? online
                                       : threads_of_rank(allowed_processors(), online, local_ranks_);
  const DeviceMemory there = ops->memory(device);
  if (memory_text.empty()) {
    memory = there.total == 0 ? 0 : device_limit(there);
  } else {
    memory = there.total == 0 ? parse_memory(memory_text) : parse_memory(memory_text, there.total);
  }
  if (!cpu_target.empty()) {
    const auto targets = cpu_targets();
    if (std::find(targets.begin(), targets.end(), cpu_target) == targets.end()) {
      throw Error(ExitCode::kUsage, "--cpu-target",
                  "not on this machine" +
                      expected_got(fmt::format("one of {}", fmt::join(targets, ", ")), cpu_target));
    }
    set_cpu_target(cpu_target);
  }
}

}  // namespace eep
