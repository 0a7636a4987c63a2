#include "experiments/model_context.h"

#include "loaders/model_hash.h"

namespace eep {

RawModel ModelContext::load(const std::string& path, bool hf_rounding) {
  RawModel raw = load_checkpoint(path);
  raw.config.hf_rounding = hf_rounding;
  return raw;
}

const std::string& ModelContext::hash() {
  if (hash_.empty()) hash_ = model_hash(raw_);
  return hash_;
}

}  // namespace eep
