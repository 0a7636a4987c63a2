// The matrix product of precision bf16 on the CPU (gemm_bf16.h): by the matrix unit where there is one, else
// by vectors whose lanes lie along 16 output columns.
//
// Rows are widened to f32 in blocks of k that stay in the cache with the panel's block. A 32-bit word of a
// panel holds two neighbours of k of one column, which a shift and a mask widen. The two chains of each
// output stay in registers, their sums go to the result every 32 of k.
//
// Included inside *_cpu.cpp, compiled once per target.
#if defined(EEP_KERNELS_GEMM_BF16_PANEL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef EEP_KERNELS_GEMM_BF16_PANEL_H_
#undef EEP_KERNELS_GEMM_BF16_PANEL_H_
#else
#define EEP_KERNELS_GEMM_BF16_PANEL_H_
#endif

#include <algorithm>

#include "kernels/cpu/amx.h"
#include "kernels/cpu/denormals.h"
#include "kernels/cpu/gemm_bf16_schedule.h"
#include "kernels/cpu/simd.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

// Two chains a row and panel; about eight registers of them hide the latency of the fma.
inline constexpr int kBf16TileRows = kRegisters == 1 ? 12 : kRegisters == 2 ? 3 : kRegisters == 4 ? 2 : 1;
constexpr int bf16_tile_panels(int rows) {
  if (kRegisters == 1) return rows == 1 ? 4 : rows <= 3 ? 2 : 1;
  return kRegisters == 2 && rows == 1 ? 2 : 1;
}

// Sixteen words, each two bf16: the low and the high halves, widened.
#if EEP_PLAIN
HWY_INLINE Lanes load_low(const Bf16* p) {
  Lanes out;
  EEP_UNROLL for (int i = 0; i < kLanes; ++i) out.r[i] = bf16_to_f32(p[2 * i].bits);
  return out;
}
HWY_INLINE Lanes load_high(const Bf16* p) { return load_low(p + 1); }
#else
HWY_INLINE Lanes load_low(const Bf16* p) {
  const hn::RebindToUnsigned<D> d;
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(p);
  Lanes out;
  EEP_UNROLL for (int i = 0; i < kRegisters; ++i) {
    out.r[i] = hn::BitCast(D(), hn::ShiftLeft<16>(hn::LoadU(d, words + i * kRegisterLanes)));
  }
  return out;
}
HWY_INLINE Lanes load_high(const Bf16* p) {
  const hn::RebindToUnsigned<D> d;
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(p);
  Lanes out;
  EEP_UNROLL for (int i = 0; i < kRegisters; ++i) {
    out.r[i] = hn::BitCast(D(), hn::And(hn::LoadU(d, words + i * kRegisterLanes), hn::Set(d, 0xffff0000u)));
  }
  return out;
}
#endif

template <int kRows, int kPanels>
HWY_NOINLINE void bf16_tile(const Bf16* HWY_RESTRICT panels, int64_t panel_elements, int64_t steps,
                            const float* HWY_RESTRICT rows,  // [kRows, row_stride]
                            int64_t row_stride,
                            float* HWY_RESTRICT out,  // [kRows, out_stride], added to
                            int64_t out_stride) {
  for (int64_t step = 0; step < steps; ++step) {
    Lanes even[kRows][kPanels], odd[kRows][kPanels];
    EEP_UNROLL for (int r = 0; r < kRows; ++r) {
      EEP_UNROLL for (int p = 0; p < kPanels; ++p) even[r][p] = odd[r][p] = zero();
    }
    const float* HWY_RESTRICT x = rows + step * kBf16Step;
    const Bf16* HWY_RESTRICT weight = panels + step * kBf16Step * kLanes;
    for (int pair = 0; pair < kBf16Step / 2; ++pair, x += 2, weight += 2 * kLanes) {
      Lanes w[kPanels];
      EEP_UNROLL for (int p = 0; p < kPanels; ++p) w[p] = load_low(weight + p * panel_elements);
      EEP_UNROLL for (int r = 0; r < kRows; ++r) {
        const Lanes a = broadcast(x[r * row_stride]);
        EEP_UNROLL for (int p = 0; p < kPanels; ++p) even[r][p] = fma(a, w[p], even[r][p]);
      }
      EEP_UNROLL for (int p = 0; p < kPanels; ++p) w[p] = load_high(weight + p * panel_elements);
      EEP_UNROLL for (int r = 0; r < kRows; ++r) {
        const Lanes a = broadcast(x[r * row_stride + 1]);
        EEP_UNROLL for (int p = 0; p < kPanels; ++p) odd[r][p] = fma(a, w[p], odd[r][p]);
      }
    }
    EEP_UNROLL for (int r = 0; r < kRows; ++r) {
      EEP_UNROLL for (int p = 0; p < kPanels; ++p) {
        float* const to = out + r * out_stride + p * kLanes;
        store(load(to) + (even[r][p] + odd[r][p]), to);
      }
    }
  }
}

// One tile of rows over `count` panels.
template <int kRows>
HWY_INLINE void bf16_tile_row(const Bf16* panels, int64_t panel_elements, int count, int64_t steps,
                              const float* rows, int64_t row_stride, float* out, int64_t out_stride) {
  constexpr int kPanels = bf16_tile_panels(kRows);
  int p = 0;
  for (; p + kPanels <= count; p += kPanels) {
    bf16_tile<kRows, kPanels>(panels + p * panel_elements, panel_elements, steps, rows, row_stride,
                              out + p * kLanes, out_stride);
  }
  if constexpr (kPanels > 1) {
    for (; p < count; ++p) {
      bf16_tile<kRows, 1>(panels + p * panel_elements, panel_elements, steps, rows, row_stride,
                          out + p * kLanes, out_stride);
    }
  }
}

// The same for a number of rows, at most kMost, that is known at run time.
template <int kMost>
HWY_INLINE void bf16_tile_rows(int row_count, const Bf16* panels, int64_t panel_elements, int count,
                               int64_t steps, const float* rows, int64_t row_stride, float* out,
                               int64_t out_stride) {
  if constexpr (kMost > 1) {
    if (row_count < kMost) {
      bf16_tile_rows<kMost - 1>(row_count, panels, panel_elements, count, steps, rows, row_stride, out,
                                out_stride);
      return;
    }
  }
  bf16_tile_row<kMost>(panels, panel_elements, count, steps, rows, row_stride, out, out_stride);
}

// 16 columns of a row as a product reads them, zeros beyond `count`.
HWY_INLINE Lanes bf16_rounded(const uint16_t* p, int64_t count) {
  return load_first(reinterpret_cast<const Bf16*>(p), count);
}
HWY_INLINE Lanes bf16_rounded(const float* p, int64_t count) {
  HWY_ALIGN Bf16 bits[kLanes];
  store(load_first(p, count), bits);
  return load(bits);
}

// The block of k from `begin` of all rows: f32 [row_count, depth], zeros beyond k.
template <typename Row>
HWY_NOINLINE void bf16_widen(const Row* const* rows, int64_t row_count, int64_t begin, int64_t depth,
                             int64_t k, float* wide) {
  for (int64_t r = 0; r < row_count; ++r, wide += depth) {
    for (int64_t i = 0; i < depth; i += kLanes) {
      const int64_t count = std::clamp<int64_t>(k - begin - i, 0, kLanes);
      store(count > 0 ? bf16_rounded(rows[r] + begin + i, count) : zero(), wide + i);
    }
  }
}

inline HWY_NOINLINE void bf16_block(const Bf16* panels, int64_t panel_elements, int count, int64_t steps,
                                    const float* wide, int64_t row_count, float* out, int64_t out_stride) {
  const int64_t depth = steps * kBf16Step;
  const int64_t tiles = (row_count + kBf16TileRows - 1) / kBf16TileRows;
  // A panel's block stays in L1 while all tiles of rows go by.
  const int together = tiles == 1 ? count : std::max(1, bf16_tile_panels(kBf16TileRows));
  for (int p = 0; p < count; p += together) {
    for (int64_t t = 0, row = 0; t < tiles; ++t) {
      const int64_t end = row_count * (t + 1) / tiles;
      bf16_tile_rows<kBf16TileRows>(static_cast<int>(end - row), panels + p * panel_elements, panel_elements,
                                    std::min(together, count - p), steps, wide + row * depth, depth,
                                    out + row * out_stride + p * kLanes, out_stride);
      row = end;
    }
  }
}

// part.out[row, 0 .. 16 * panels) for the panels from part.panels on, of every part: matrices of k columns
// that share the rows. At most kBlockRows rows; room in out as cpu/amx.h says.
template <typename Row>
HWY_NOINLINE void bf16_products(const PanelSums* parts, int part_count, int panels, int64_t k,
                                const Row* const* rows, int64_t row_count, int64_t out_stride) {
  if (amx_in_use()) return amx_products(parts, part_count, panels, k, rows, row_count, out_stride);
  for (int part = 0; part < part_count; ++part) {
    for (int64_t r = 0; r < row_count; ++r)
      std::fill_n(parts[part].out + r * out_stride, panels * kPanel, 0.0f);
  }
  if (row_count == 0) return;
  HWY_ALIGN float wide[kBlockRows * kBf16Depth];
  const int64_t whole = (k + kBf16Step - 1) / kBf16Step * kBf16Step;
  // Weights that one tile of rows reads once need no blocks of k.
  const int64_t most =
      row_count > kBf16TileRows ? kBf16Depth : kBlockRows * kBf16Depth / row_count / kBf16Step * kBf16Step;
  const FlushDenormals flush;
  for (int64_t begin = 0; begin < whole; begin += most) {
    const int64_t depth = std::min(most, whole - begin);
    bf16_widen(rows, row_count, begin, depth, k, wide);
    for (int part = 0; part < part_count; ++part) {
      const Bf16* const at = reinterpret_cast<const Bf16*>(parts[part].panels) + begin * kLanes;
      bf16_block(at, whole * kLanes, panels, depth / kBf16Step, wide, row_count, parts[part].out, out_stride);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
