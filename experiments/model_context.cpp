#include "experiments/model_context.h"

#include "loaders/model_hash.h"

namespace eep {

const std::string& ModelContext::hash() {
  if (hash_.empty()) hash_ = model_hash(raw_);
  return hash_;
}

}  // namespace eep
