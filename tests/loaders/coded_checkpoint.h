// A tiny checkpoint whose projections are E4M3 numbers with a scale a block, and its twin with the values
// that these stand for, made from the definitions.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tests/loaders/tiny_checkpoint.h"

namespace eep {

// From the definition: 1 bit of sign, 4 of exponent (bias 7), 3 of mantissa; all seven set: NaN.
inline double e4m3_value(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  if ((code & 127) == 127) return std::numeric_limits<double>::quiet_NaN();
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return code >= 128 ? -magnitude : magnitude;
}

enum class Scales { kF32, kBF16, kE8M0 };

struct CodedCheckpoint {
  TinyCheckpoint coded, plain;

  // Blocks of block_rows x block_columns; 0: one scale a tensor, without axes.
  CodedCheckpoint(const std::string& family, int block_rows, int block_columns,
                  TinyLayout layout = TinyLayout::kPerExpert, Scales scales = Scales::kF32,
                  DType dtype = DType::kBF16, int inner = 5)
      : coded(family, layout, dtype, inner),
        plain(family, layout, dtype, inner),
        rows_(block_rows),
        columns_(block_columns),
        scales_(scales),
        dtype_(dtype) {
    coded.config["torch_dtype"] = plain.config["torch_dtype"] = dtype == DType::kF32 ? "float32" : "bfloat16";
    Json& quantisation = coded.config["quantization_config"];
    quantisation = {{"quant_method", "fp8"},
                    {"fmt", "e4m3"},
                    {"activation_scheme", "dynamic"},
                    {"modules_to_not_convert", {"lm_head"}},
                    {"weight_block_size", nullptr}};
    if (block_rows > 0) quantisation["weight_block_size"] = {block_rows, block_columns};
    for (const auto& [name, tensor] : plain.tensors) {
      const bool projection =
          name.find("_proj") != std::string::npos || name.find(".experts.") != std::string::npos;
      if (projection && tensor.shape.size() > 1) encode(name);
    }
  }

 private:
  void encode(const std::string& name) {
    TinyTensor &codes = coded.tensors[name], &values = plain.tensors[name];
    const std::vector<int64_t> shape = codes.shape;
    const int64_t n = shape[shape.size() - 2], k = shape.back(), count = shape.size() == 3 ? shape[0] : 1;
    const int64_t rows = rows_ > 0 ? rows_ : n, columns = columns_ > 0 ? columns_ : k;
    const int64_t block_rows = (n + rows - 1) / rows, block_columns = (k + columns - 1) / columns;
    std::vector<double> scales;
    TinyTensor stored{scales_ == Scales::kF32 ? DType::kF32 : DType::kBF16,
                      {block_rows, block_columns},
                      {},
                      scales_ == Scales::kE8M0 ? Code::kE8M0 : Code::kNone};
    if (rows_ == 0) stored.shape.clear();
    if (shape.size() == 3) stored.shape = {count, block_rows, block_columns};
    for (int64_t i = 0; i < count * block_rows * block_columns; ++i) scales.push_back(scale(stored.bytes));
    codes = {dtype_, shape, {}, Code::kE4M3};
    values.bytes.clear();
    for (int64_t i = 0; i < count * n * k; ++i) {
      const int64_t row = i / k % n, column = i % k, matrix = i / (n * k);
      int code = static_cast<int>(next() >> 24);
      if ((code & 127) == 127) code ^= 1;
      codes.bytes += static_cast<char>(code);
      // A product of 4 and at most 24 bits is exact in f64: one rounding to f32, one to the dtype.
      append(values.bytes,
             static_cast<float>(e4m3_value(code) *
                                scales[static_cast<size_t>(
                                    (matrix * block_rows + row / rows) * block_columns + column / columns)]));
    }
    coded.tensors[name + "_scale_inv"] = std::move(stored);
  }

  // About what makes weights of ordinary size of codes of all sizes.
  double scale(std::string& bytes) {
    const float value = 1e-3f * (0.5f + static_cast<float>(next() >> 8) / 16777216.0f);
    if (scales_ == Scales::kF32) {
      bytes.append(reinterpret_cast<const char*>(&value), 4);
      return double{value};
    }
    if (scales_ == Scales::kE8M0) {
      const int power = 115 + static_cast<int>(next() >> 30);
      bytes += static_cast<char>(power);
      return std::ldexp(1.0, power - 127);
    }
    const uint16_t bits = f32_to_bf16(value);
    bytes.append(reinterpret_cast<const char*>(&bits), 2);
    return double{bf16_to_f32(bits)};
  }

  void append(std::string& bytes, float value) const {
    if (dtype_ == DType::kF32) {
      bytes.append(reinterpret_cast<const char*>(&value), 4);
      return;
    }
    const uint16_t bits = dtype_ == DType::kF16 ? f32_to_f16(value) : f32_to_bf16(value);
    bytes.append(reinterpret_cast<const char*>(&bits), 2);
  }

  uint32_t next() { return state_ = state_ * 1664525u + 1013904223u; }

  int64_t rows_, columns_;
  Scales scales_;
  DType dtype_;
  uint32_t state_ = 1;
};

}  // namespace eep
