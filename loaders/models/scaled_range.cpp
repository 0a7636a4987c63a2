#include "loaders/models/scaled_range.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "engine/coded_matrix.h"
#include "loaders/formats/safetensors.h"

namespace eep {

namespace {

std::vector<const RawMatrix*> coded_matrices(const RawModel& model) {
  std::vector<const RawMatrix*> found;
  const auto add = [&](const RawMatrix& matrix) {
    if (matrix && matrix.coded()) found.push_back(&matrix);
  };
  const auto add_ffn = [&](const RawFfn& ffn) {
    for (const RawMatrix* matrix : {&ffn.gate, &ffn.up, &ffn.down}) add(*matrix);
  };
  for (const RawLayer& layer : model.layers) {
    for (const RawMatrix* matrix : {&layer.q, &layer.k, &layer.v, &layer.o}) add(*matrix);
    add_ffn(layer.dense);
    for (const RawFfn& expert : layer.experts) add_ffn(expert);
    add_ffn(layer.shared);
  }
  add(model.lm_head);
  return found;
}

// Where the codes at `data` lie: the tensor, and how many bytes into it.
struct Holder {
  SafetensorsEntry tensor;
  size_t byte = 0;
};

Holder holder_of(const RawModel& model, const void* data) {
  const auto* at = static_cast<const uint8_t*>(data);
  for (const MappedFile& file : model.files) {
    for (const SafetensorsEntry& entry : parse_safetensors(file.data(), file.size(), file.path()).entries) {
      const uint8_t* begin = file.data() + entry.offset;
      if (at >= begin && at < begin + entry.bytes) return {entry, static_cast<size_t>(at - begin)};
    }
  }
  return {};
}

OutOfRange described(const RawModel& model, const RawMatrix& matrix, int64_t row, int64_t column) {
  const Holder holder = holder_of(model, matrix.data);
  const std::vector<int64_t>& shape = holder.tensor.shape;
  std::string whose;
  if (shape.size() > 2 && shape[0] > 0)  // the experts of a layer in one tensor
    whose = fmt::format(" of expert {}", holder.byte / (holder.tensor.bytes / static_cast<size_t>(shape[0])));
  return {holder.tensor.name,
          fmt::format("row {}, column {}{}, times the scale of its block, is beyond the range of {}", row,
                      column, whose, dtype_name(matrix.dtype))};
}

}  // namespace

std::optional<OutOfRange> first_out_of_range(const RawModel& model) {
  for (const RawMatrix* matrix : coded_matrices(model)) {
    if (!may_overflow(*matrix)) continue;
    for (int64_t row = 0; row < matrix->n; ++row) {
      for (int64_t column = 0; column < matrix->k; ++column) {
        if (!std::isfinite(element_of(*matrix, row, column))) return described(model, *matrix, row, column);
      }
    }
  }
  return std::nullopt;
}

}  // namespace eep
