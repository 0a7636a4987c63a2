// OpenBLAS, the yardstick of f32 products on the CPU: loaded when it is first asked for, so programs start,
// and run, on machines that do not have it.
#pragma once

#include <cstdint>
#include <string>

namespace eep::bench {

// libopenblas.so.0 in the folder that EEP_OPENBLAS names (and then nowhere else), or on the loader's path.
// Held to one thread.
bool openblas_here();
// Where it was found, or why it was not.
const std::string& openblas_where();

// out[rows, n] = x[rows, k] w[n, k]^T.
void openblas_product(const float* x, const float* w, float* out, int64_t rows, int64_t n, int64_t k);

}  // namespace eep::bench
