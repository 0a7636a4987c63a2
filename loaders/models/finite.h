// Values that are no numbers: NaN and infinities in stored tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/raw_model.h"
#include "loaders/formats/safetensors.h"

namespace eep {

// The first element of `data` (of any alignment) that is not finite, or `count`. A code, if any, goes before
// the dtype.
size_t first_not_finite(const void* data, size_t count, DType dtype, Code code = Code::kNone);

// How an entry's elements are read: scales of MXFP4 are numbers though their dtype is U8.
Code code_of(const SafetensorsEntry& entry);

// Throws Error(kData) with the name of the first tensor in the model's files that holds one, or a code that
// its scale makes one, as the files spell it. Reads every weight once.
void require_finite(const RawModel& model);

// What is wrong with element `element` of a tensor of that shape: of fused experts, whose it is.
std::string not_finite_text(const std::string& name, const int64_t* shape, size_t rank, size_t element);

}  // namespace eep
