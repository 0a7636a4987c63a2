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
  const uint8_t magnitude = matrix.scales.numbers == Code::kE2M1 ? 0x77 : 0x7f;
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t column = 0; column < stored.k; ++column) {
      const auto offset = static_cast<size_t>(row * stored.row_stride + column * stored.column_stride);
      const uint8_t* const at = stored.data + offset * stored.element;
      if (matrix.coded() ? (*at & magnitude) != 0 : !is_zero(at, matrix.dtype)) return false;
    }
  }
  return true;
}

bool all_zero(const RawMatrix& matrix) { return rows_zero(matrix, 0, matrix.n); }

// Of a product and its bias, if it has one.
bool gives_zero(const RawMatrix& matrix, const RawMatrix& bias) {
  return (!bias || all_zero(bias)) && all_zero(matrix);
}

// Of expert_ffn.h's formulas: a limit makes up of zero one.
bool puts_out_zero(const RawFfn& ffn, bool limited) {
  if (ffn.down_bias && !all_zero(ffn.down_bias)) return false;
  return all_zero(ffn.down) || gives_zero(ffn.gate, ffn.gate_bias) ||
         (!limited && gives_zero(ffn.up, ffn.up_bias));
}

}  // namespace

std::vector<ZeroExperts> zero_experts(const RawModel& model) {
  std::vector<ZeroExperts> found;
  for (size_t index = 0; index < model.layers.size(); ++index) {
    const RawLayer& layer = model.layers[index];
    ZeroExperts zero;
    zero.layer = static_cast<int32_t>(index);
    for (size_t expert = 0; expert < layer.experts.size(); ++expert) {
      if (puts_out_zero(layer.experts[expert], model.config.expert_limit > 0))
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
