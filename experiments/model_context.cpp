#include "experiments/model_context.h"

#include "loaders/finite.h"
#include "loaders/model_hash.h"

namespace eep {

RawModel ModelContext::load(const std::string& path, Parity parity) {
  RawModel raw = load_checkpoint(path);
  require_finite(raw);  // before the weights are packed, which reads the same pages again from memory
  raw.config.parity = parity;
  return raw;
}

const std::string& ModelContext::hash() {
  if (hash_.empty()) hash_ = model_hash(raw_);
  return hash_;
}

}  // namespace eep
