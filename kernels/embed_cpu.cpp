// embed on the CPU: out[row, :] = table[token[row], :], widened to f32. The table may lie misaligned in a
// file.
#include <cstring>
#include <type_traits>

#include "kernels/cpu/simd_targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/embed_cpu.cpp"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/embed.h"

HWY_BEFORE_NAMESPACE();
namespace eep {
namespace HWY_NAMESPACE {

template <typename T>
void widen_rows(const EmbedArgs& args, int64_t begin, int64_t end) {
  const int64_t hidden = args.table.dim(1);
  for (int64_t row = begin; row < end; ++row) {
    const char* source = args.table.as<char>() + args.token[row] * hidden * static_cast<int64_t>(sizeof(T));
    float* out = args.out + row * hidden;
    if constexpr (std::is_same_v<T, float>) {
      std::memcpy(out, source, static_cast<size_t>(hidden) * sizeof(float));
      continue;
    }
    for (int64_t i = 0; i < hidden; i += kLanes) {
      T values[kLanes] = {};  // a copy, because a misaligned T* must not be read through
      const char* from = source + i * static_cast<int64_t>(sizeof(T));
      if (i + kLanes <= hidden) {
        std::memcpy(values, from, sizeof(values));
      } else {
        std::memcpy(values, from, static_cast<size_t>(hidden - i) * sizeof(T));
      }
      store_first(load(values), out + i, hidden - i);
    }
  }
}

void embed_rows(const EmbedArgs& args, int64_t begin, int64_t end) {
  switch (args.table.dtype) {
    case DType::kBF16:
      return widen_rows<Bf16>(args, begin, end);
    case DType::kF16:
      return widen_rows<F16>(args, begin, end);
    default:
      return widen_rows<float>(args, begin, end);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace eep
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace eep {

HWY_EXPORT(embed_rows);

void embed_cpu(const EmbedArgs& args, const Device& device) {
  check(args);
  parallel_rows(device, args.rows, 64, [&](int64_t begin, int64_t end) {
    HWY_DYNAMIC_DISPATCH(embed_rows)(args, begin, end);
  });
}

}  // namespace eep
#endif
