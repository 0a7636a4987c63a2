// The matrix unit of Intel's AMX: bf16 products of 16 rows, 16 columns and 32 of k an instruction, in the
// order of gemm_bf16.h. Compiled wherever the compiler targets x86-64, used where processor and kernel have
// it.
#pragma once

#include <cstdint>

namespace eep {

// Whether this process may use tiles: the processor and the kernel know them, and the kernel has given leave.
bool amx_found();
// Whether products go there; what found() says until set_amx (cpu_target.h).
bool amx_in_use();
void set_amx(bool used);

// The sums of some rows with some panels of a matrix.
struct PanelSums {
  const uint16_t* panels = nullptr;  // [panels][steps of 32 k][16 pairs][16 columns][2], one after the other
  float* out = nullptr;              // [rows, stride], the first 16 * panels of each row are written
};

// part.out[row, 16 p + c] for every part, with rows of bf16, or of f32 that are rounded here. At most 96
// rows. Each out has room for the rows rounded up to tiles: no more than the next multiple of 16, and than 24
// where there are at most 24.
void amx_products(const PanelSums* parts, int part_count, int panels, int64_t k, const uint16_t* const* rows,
                  int64_t row_count, int64_t stride);
void amx_products(const PanelSums* parts, int part_count, int panels, int64_t k, const float* const* rows,
                  int64_t row_count, int64_t stride);

}  // namespace eep
