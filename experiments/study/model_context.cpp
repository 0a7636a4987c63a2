#include "experiments/study/model_context.h"

#include "kernels/common/error.h"
#include "loaders/models/finite.h"
#include "loaders/models/model_hash.h"

namespace eep {

RawModel ModelContext::load(const std::string& path, Parity parity, bool look_at_values) {
  RawModel raw = load_checkpoint(path);
  if (look_at_values)
    require_finite(raw);  // before the weights are packed, which reads the same pages again from memory
  raw.config.parity = parity;
  return raw;
}

std::string ModelContext::precision() const {
  if (ops().host_memory && ops().round_rows == nullptr) return "f32";  // whatever the weights are
  return dtype() == DType::kBF16 ? "bf16" : "f16";
}

const std::string& ModelContext::hash(const std::function<void(size_t done, size_t total)>& progress) {
  if (hash_.empty()) hash_ = model_hash(raw_, progress);
  return hash_;
}

void require_original(const RawModel& model, const std::string& path) {
  if (!model.plan) return;
  throw Error(ExitCode::kUsage, path, "is the result of a plan (a native export, or counts by layer)",
              "start from the original model");
}

}  // namespace eep
