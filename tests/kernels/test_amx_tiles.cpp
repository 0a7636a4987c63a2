// The code of cpu/amx.cpp over tiles in software, on any x86-64: packing, blocks of k and the choice of tiles
// are the same as with the instructions, which test_gemm_bf16.cpp checks where they are.
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/cpu/amx.h"
#include "kernels/gemm_bf16.h"
#include "tests/kernels/support.h"

namespace {

// Eight tiles of 16 rows of 64 bytes, as the configuration cuts them.
struct SoftwareTiles {
  struct Config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  };
  bool configured = false;
  Config config{};
  float tile[8][16][16] = {};
  int64_t loads = 0, products = 0;

  void load_config(const void* from) {
    std::memcpy(&config, from, sizeof config);
    configured = config.palette == 1;
    for (int t = 0; t < 8; ++t) {
      REQUIRE(config.rows[t] >= 1);
      REQUIRE(config.rows[t] <= 16);
      REQUIRE(config.row_bytes[t] == 64);
    }
  }
  void load(int t, const void* from, int64_t stride) {
    REQUIRE(configured);
    ++loads;
    std::memset(tile[t], 0, sizeof tile[t]);
    for (int row = 0; row < config.rows[t]; ++row)
      std::memcpy(tile[t][row], static_cast<const char*>(from) + row * stride, 64);
  }
  void store(int t, void* to, int64_t stride) const {
    REQUIRE(configured);
    for (int row = 0; row < config.rows[t]; ++row)
      std::memcpy(static_cast<char*>(to) + row * stride, tile[t][row], 64);
  }
  static float half(float word, int which) {
    uint16_t bits[2];
    std::memcpy(bits, &word, sizeof bits);
    return eep::bf16_to_f32(bits[which]);
  }
  void multiply(int sums, int rows, int weights) {
    REQUIRE(config.rows[sums] == config.rows[rows]);
    REQUIRE(config.rows[weights] == 16);
    ++products;
    for (int m = 0; m < config.rows[sums]; ++m) {
      for (int n = 0; n < 16; ++n) {
        float chain[2] = {0, 0};
        for (int pair = 0; pair < 16; ++pair) {
          for (int which : {0, 1})
            chain[which] =
                std::fma(half(tile[rows][m][pair], which), half(tile[weights][pair][n], which), chain[which]);
        }
        tile[sums][m][n] += chain[0] + chain[1];
      }
    }
  }
};
SoftwareTiles software;

}  // namespace

#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadd(tile, from, stride) software.load(tile, from, stride)
#define _tile_stored(tile, to, stride) software.store(tile, to, stride)
#define _tile_dpbf16ps(sums, rows, weights) software.multiply(sums, rows, weights)
#define _tile_loadconfig(from) software.load_config(from)
#define _tile_release() software.configured = false
#define EEP_AMX
// The file's own names go to a namespace of their own; what it uses of ours it finds.
namespace eep_software {
using namespace eep;
}
#define eep eep_software
#include "kernels/cpu/amx.cpp"  // NOLINT(bugprone-suspicious-include)
#undef eep

using namespace eep;
using namespace eep::test;

TEST_CASE("amx: rows, panels and blocks of k of every kind through tiles give the bits of the vectors") {
  const bool before = amx_in_use();
  set_amx(false);
  for (const int64_t rows : {1, 5, 16, 17, 24, 31, 33, 48, 64, 81, 96}) {
    for (const int64_t k : {1, 32, 40, 700, 3100}) {
      if (rows > 33 && k > 1000) continue;
      const int64_t n = 16 * (1 + rows % 8);
      CAPTURE(rows);
      CAPTURE(n);
      CAPTURE(k);
      Data data(static_cast<uint64_t>(900 + rows * 7 + k));
      const Floats x = data.floats(rows * k), source = data.floats(n * k);
      Buffer buffer(gemm_bf16_packed_bytes(n, k, DType::kF32));
      const PackedMatrix w = gemm_bf16_pack_cpu(source.data(), n, k, k, 1, DType::kF32, buffer.data());
      Floats expected(static_cast<size_t>(rows * n));
      GemmArgs args;
      args.x = x.data();
      args.rows = rows;
      args.w = w;
      args.out = expected.data();
      args.out_stride = n;
      gemm_bf16_cpu(args, cpu(1));

      const int64_t stride = n + 16, room = rows <= 16 ? rows : rows <= 24 ? 24 : (rows + 15) / 16 * 16;
      std::vector<const float*> row;
      std::vector<uint16_t> narrow;
      std::vector<const uint16_t*> row16;
      for (const float value : x) narrow.push_back(f32_to_bf16(value));
      for (int64_t r = 0; r < rows; ++r) {
        row.push_back(x.data() + r * k);
        row16.push_back(narrow.data() + r * k);
      }
      for (const bool rounded_before : {false, true}) {
        Floats out(static_cast<size_t>(room * stride), 7.0f), twin = out;
        const PanelSums parts[] = {{buffer.as<uint16_t>(), out.data()}, {buffer.as<uint16_t>(), twin.data()}};
        const int panels = static_cast<int>(n / 16);
        if (rounded_before) {
          eep_software::amx_products(parts, 2, panels, k, row16.data(), rows, stride);
        } else {
          eep_software::amx_products(parts, 2, panels, k, row.data(), rows, stride);
        }
        CHECK(same_bits(out, twin));
        int64_t wrong = 0, touched = 0;
        for (int64_t r = 0; r < room; ++r) {
          for (int64_t c = 0; c < stride; ++c) {
            const float value = out[static_cast<size_t>(r * stride + c)];
            if (c >= n) {
              touched += value != 7.0f;
            } else if (r < rows) {
              wrong += std::memcmp(&value, &expected[static_cast<size_t>(r * n + c)], sizeof value) != 0;
            }
          }
        }
        CHECK(wrong == 0);
        CHECK(touched == 0);
        CHECK(!software.configured);  // given back
      }
    }
  }
  CHECK(software.products > 0);
  set_amx(before);
}
#endif
