// What the machine can do at most, measured in the run whose cases stand beside it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/ops.h"

namespace eep::bench {

class Bench;

// Bytes or FLOPs a second; 0: not measured (a GPU, none, no cuBLAS, another
// generation).
struct Ceilings {
  double copy = 0;             // bytes read and written within the device
  double fma = 0;              // FLOPs of fused multiply-adds on one core
  double upload_pageable = 0;  // bytes from ordinary host memory
  double upload_pinned = 0;    // bytes from pinned host memory
  double l2 = 0;               // bytes from the L2 cache to the multiprocessors
  double product = 0;          // FLOPs of cuBLAS at 8192^3
  double mma = 0;              // FLOPs of mma.sync on registers
  double wgmma = 0;            // FLOPs of wgmma on shared memory that stays the same

  // FLOPs that a product can have: cuBLAS's, without it those of the tensor cores alone; on the CPU those of
  // fused multiply-adds on so many cores.
  double products(int threads) const {
    return product > 0 ? product : fma > 0 ? fma * threads : wgmma > mma ? wgmma : mma;
  }
};

struct NamedCeiling {
  const char* name;  // in the table
  double Ceilings::*rate;
  bool flops;  // else bytes
};
inline constexpr NamedCeiling kCeilings[] = {{"copy", &Ceilings::copy, false},
                                             {"fused multiply-add, one core", &Ceilings::fma, true},
                                             {"host to device, pinned", &Ceilings::upload_pinned, false},
                                             {"host to device, pageable", &Ceilings::upload_pageable, false},
                                             {"L2 to multiprocessors", &Ceilings::l2, false},
                                             {"cuBLAS bf16 8192^3", &Ceilings::product, true},
                                             {"mma.sync bf16", &Ceilings::mma, true},
                                             {"wgmma bf16", &Ceilings::wgmma, true}};

// small: of a few KiB, where the times mean nothing.
Ceilings measure_ceilings(Bench& bench, bool small);

// "copy 2.61 TB/s, cuBLAS bf16 8192^3 790 TFLOP/s, ...": those that were measured.
std::string describe(const Ceilings& ceilings);

}  // namespace eep::bench
