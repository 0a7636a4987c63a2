// kv_scatter on the CPU: a row of keys and a row of values at a time.
#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/kv_scatter.h"

namespace eep {

void kv_scatter_cpu(const KvScatterArgs& args, const Device& device) {
  check(args);
  const size_t bytes = static_cast<size_t>(args.width) * sizeof(float);
  parallel_rows(device, args.rows, 1 + 16384 / (args.width + 1), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(args.to[row].k, args.k + row * args.width, bytes);
      std::memcpy(args.to[row].v, args.v + row * args.width, bytes);
    }
  });
}

}  // namespace eep
