// Options that every command takes.
#pragma once

#include <cstdint>
#include <string>

#include "engine/ops.h"
#include "kernels/common/device.h"

namespace eep {

class Command;

struct CommonOptions {
  std::string device_name = "auto";
  int threads = 0;          // 0: all of the machine
  std::string memory_text;  // BYTES or FRACTION of the device's memory, with k, M, G
  std::string seed_text = "11450";
  bool seed_given = false;  // on the command line: then it goes before an experiment file's
  std::string parity;       // "": none, or what an experiment file says
  std::string precision;    // "": f32, or what an experiment file says
  std::string log_level = "info";
  std::string cpu_target;  // instruction set of the CPU kernels; "": the best

  // The table of the device whose products have the precision ("f32", "bf16", "": f32). Throws Error(kConfig)
  // for bf16 on a GPU, whose products have the weights' dtype.
  const Ops& ops_with(const std::string& name) const;

  // Filled by resolve().
  uint64_t seed = 11450;
  Device device;
  const Ops* ops = nullptr;  // of the device
  size_t memory = 0;         // bytes, 0: unlimited

  // As one of several ranks: which of those on this machine. Before resolve().
  void place(int local_rank, int local_ranks);
  void add_to(const Command& command);
  // Throws Error(kUsage) for values that make no sense, Error(kRuntime) for a device that is not there.
  void resolve();

 private:
  void open_device();

  int local_rank_ = 0, local_ranks_ = 0;
};

// Of the device that the options have opened, for people; a GPU's identity on its host, else "".
std::string device_text(const CommonOptions& options);
std::string device_id(const CommonOptions& options);

// "bf16"; else f32.
Precision precision_named(const std::string& name);
// "512M", "1.5G", "0.5" (of `whole`, or of the machine's memory), "1000000". Throws Error(kUsage).
size_t parse_memory(const std::string& text, size_t whole);
size_t parse_memory(const std::string& text);
// The limit on a GPU where none is given: what is free, less a reserve.
size_t device_limit(const DeviceMemory& memory);

}  // namespace eep
