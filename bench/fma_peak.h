// How fast one core multiplies and adds: as many independent chains in registers as the gemm has.
#pragma once

namespace eep::bench {

// Seconds of the calling thread for `rounds` rounds of independent fused multiply-adds, and the flops of one
// round.
double fma_seconds(int rounds);
double fma_flops();

}  // namespace eep::bench
