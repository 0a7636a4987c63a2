// Codes times scales that are beyond the range of the values' dtype: every stored number is finite, a weight
// is not.
#pragma once

#include <optional>
#include <string>

#include "engine/raw_model.h"

namespace eep {

struct OutOfRange {
  std::string tensor;  // of the codes, as the files spell it
  std::string detail;  // which element, of which expert, and the dtype that cannot hold it
};

// The first of the model's coded matrices, by layer. Reads the scales, and the codes where a scale is that
// large.
std::optional<OutOfRange> first_out_of_range(const RawModel& model);

}  // namespace eep
