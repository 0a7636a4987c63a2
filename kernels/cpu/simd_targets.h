// Which instruction sets the CPU backend is compiled for; included before any Highway header, so that every
// source file of the backend builds the same list.
//
// Only targets with a hardware fused multiply-add, beside the plain one: an emulated fma in SSE4 code would
// cost more than the plain path. SVE is left out because its registers have no compile-time width; such
// machines run NEON. All attainable targets are compiled, so that the plain path exists on every machine.
#pragma once

#define EEP_UNUSED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#ifdef EEP_SANITIZED  // the same source a third time would tell the sanitizers nothing, and takes minutes
#define HWY_DISABLED_TARGETS (EEP_UNUSED_TARGETS | HWY_AVX3)
#else
#define HWY_DISABLED_TARGETS EEP_UNUSED_TARGETS
#endif
#ifndef HWY_COMPILE_ONLY_STATIC
#define HWY_COMPILE_ALL_ATTAINABLE
#endif
