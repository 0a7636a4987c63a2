// The instruction set that the CPU backend uses. Chosen by Highway at the first op; results have the same
// bits on each, so forcing one is for tests and for showing just that (`eep --cpu-target NAME`).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace eep {

// Names of the targets that this machine can run, best first: "amx", which is the best of the others with
// products of precision bf16 on the matrix unit (amx.h), "avx512", "avx2", "neon"; the last is "plain",
// portable C++ over std::fma.
std::vector<std::string> cpu_targets();

// The one in use.
std::string cpu_target();

// Uses the named target from now on; "auto" is the best one again. Throws Error (kUsage) if the machine does
// not have it. Not to be called while an op runs.
void set_cpu_target(std::string_view name);

}  // namespace eep
