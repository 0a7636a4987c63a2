// noise on the CPU: a block of four words after the other, rows of blocks side by side.
#include <cmath>

#include "kernels/common/float16.h"
#include "kernels/cpu/parallel.h"
#include "kernels/noise.h"

namespace eep {

void noise_cpu(const NoiseArgs& args, const Device& device) {
  check(args);
  parallel_rows(device, (args.count + 3) / 4, 4096, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const uint64_t at = static_cast<uint64_t>(block + args.first / 4);
      const auto words =
          philox({static_cast<uint32_t>(at), static_cast<uint32_t>(at >> 32), args.stream, 0}, args.seed);
      for (int64_t i = 4 * block; i < args.count && i < 4 * block + 4; ++i) {
        const float value =
            std::fma(2.0f, philox_uniform(words[static_cast<size_t>(i % 4)]), -1.0f) * args.scale;
        switch (args.dtype) {
          case DType::kBF16:
            static_cast<uint16_t*>(args.out)[i] = f32_to_bf16(value);
            break;
          case DType::kF16:
            static_cast<uint16_t*>(args.out)[i] = f32_to_f16(value);
            break;
          default:
            static_cast<float*>(args.out)[i] = value;
        }
      }
    }
  });
}

}  // namespace eep
