#include "loaders/models/zero_experts.h"

#include <fmt/format.h>

#include <cstring>

#include "engine/coded_matrix.h"

namespace eep {

namespace {

bool is_zero(const uint8_t* at, DType dtype) {  // of either sign
  if (dtype == DType::kF32) {
    uint32_t bits;
    std::memcpy(&bits, at, sizeof bits);
    return (bits & 0x7fffffffu) == 0;
  }
  uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return (bits & 0x7fff) == 0;
}

bool rows_zero(const RawMatrix& matrix, int64_t begin, int64_t end) {
  const StoredMatrix stored = matrix.coded() ? stored_codes(matrix) : stored_values(matrix);
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t column = 0; column < matrix.k; ++column) {
      const auto offset = static_cast<size_t>(row * stored.row_stride + column * stored.column_stride);
      const uint8_t* const at = stored.data + offset * stored.element;
      if (matrix.coded() ? (*at & 0x7f) != 0 : !is_zero(at, matrix.dtype)) return false;
    }
  }
  return true;
}

bool all_zero(const RawMatrix& matrix) { return rows_zero(matrix, 0, matrix.n); }

}  // namespace

std::vector<ZeroExperts> zero_experts(const RawModel& model) {
  std::vector<ZeroExperts> found;
  for (size_t index = 0; index < model.layers.size(); ++index) {
    const RawLayer& layer = model.layers[index];
    ZeroExperts zero;
    zero.layer = static_cast<int32_t>(index);
    for (size_t expert = 0; expert < layer.experts.size(); ++expert) {
      const RawFfn& ffn = layer.experts[expert];
      if (all_zero(ffn.down) || all_zero(ffn.gate) || all_zero(ffn.up))
        zero.experts.push_back(static_cast<int32_t>(expert));
      const auto row = static_cast<int64_t>(expert);
      if (layer.router && row < layer.router.n && rows_zero(layer.router, row, row + 1))
        zero.gate_rows.push_back(static_cast<int32_t>(expert));
    }
    if (!zero.experts.empty() || !zero.gate_rows.empty()) found.push_back(std::move(zero));
  }
  return found;
}

std::string zero_experts_line(const ZeroExperts& zero, const LayerStatistics* statistics) {
  std::string text = fmt::format("layer {}: ", zero.layer);
  if (!zero.experts.empty()) {
    text += fmt::format("experts {} put out zero whatever comes in", fmt::join(zero.experts, ", "));
    double tokens = 0;
    for (const int32_t expert : zero.experts) {
      if (statistics != nullptr) tokens += (*statistics)[ExpertSum::kCount][static_cast<size_t>(expert)];
    }
    if (statistics != nullptr) text += fmt::format(" and were chosen {} times", tokens);
  }
  if (!zero.gate_rows.empty()) {
    text += fmt::format("{}gate rows {} are zero", zero.experts.empty() ? "" : "; ",
                        fmt::join(zero.gate_rows, ", "));
  }
  return text;
}

}  // namespace eep
