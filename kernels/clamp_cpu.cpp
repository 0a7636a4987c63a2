// clamp on the CPU: compares and selects, which the compiler turns into vectors.
#include "kernels/clamp.h"
#include "kernels/cpu/parallel.h"

namespace eep {

void clamp_cpu(const ClampArgs& args, const Device& device) {
  check(args);
  parallel_rows(device, args.count, 65536, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float value = args.x[i];
      args.x[i] = value < -args.limit ? -args.limit : value > args.limit ? args.limit : value;
    }
  });
}

}  // namespace eep
