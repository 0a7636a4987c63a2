#include "engine/calibration_details.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/common/rows.h"
#include "kernels/common/scalar_math.h"
#include "kernels/cpu/parallel.h"
#include "kernels/router.h"

namespace eep {
namespace {

constexpr int64_t kLanes = 8;

// Eight chains and one fixed tree; a product of two floats is exact in double.
double dot(const float* a, const float* b, int64_t count) {
  double lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l)
      lane[l] += static_cast<double>(a[i + l]) * static_cast<double>(b[i + l]);
  }
  for (int64_t l = 0; i < count; ++i, ++l) lane[l] += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

double dot(const double* a, const double* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

// Inner products of what one token's experts put out, and with its residual.
struct TokenProducts {
  double residual = 0;                                           // <h, h>
  std::array<double, kMaxTopK> with_residual{};                  // <h, f_a>
  std::array<std::array<double, kMaxTopK>, kMaxTopK> outputs{};  // <f_a, f_b>, a <= b
};

TokenProducts products_of(const DetailRows& rows, int64_t row, int64_t hidden) {
  TokenProducts products;
  const float* h = Rows(rows.residual, hidden)[row];
  const int32_t* expert = Rows(rows.expert, rows.slots)[row];
  const Rows out(Rows(rows.slot_out, rows.slots * hidden)[row], hidden);
  products.residual = dot(h, h, hidden);
  for (int32_t a = 0; a < rows.slots; ++a) {
    if (expert[a] < 0) continue;
    products.with_residual[static_cast<size_t>(a)] = dot(h, out[a], hidden);
    for (int32_t b = a; b < rows.slots; ++b) {
      if (expert[b] < 0) continue;
      products.outputs[static_cast<size_t>(a)][static_cast<size_t>(b)] = dot(out[a], out[b], hidden);
    }
  }
  return products;
}

// 1 - cos(h, h + y), in [0, 2].
double change_of(double hh, double hy, double yy) {
  const double after = hh + 2 * hy + yy;
  if (!(hh > 0) || !(after > 0)) return 1;
  return std::clamp(1 - (hh + hy) / (std::sqrt(hh) * std::sqrt(after)), 0.0, 2.0);
}

}  // namespace

CalibrationDetails::CalibrationDetails(size_t layers, int32_t experts, int64_t hidden, bool sigmoids,
                                       bool every_expert, int threads)
    : experts_(experts), hidden_(hidden), sigmoids_(sigmoids), layers_(layers) {
  workers_.threads = threads;
  const auto count = static_cast<size_t>(experts), width = count * static_cast<size_t>(hidden);
  for (Layer& layer : layers_) {
    layer.change_norm.assign(count, 0.0);
    layer.credit.assign(count, 0.0);
    layer.interaction.assign(count * count, 0.0);
    layer.logit_gram.assign(count * count, 0.0);
    layer.output_sum.assign(width, 0.0);
    if (every_expert) layer.mean_output.assign(width, 0.0);
    if (every_expert) layer.gated_output.assign(width, 0.0);
  }
}

size_t CalibrationDetails::bytes() {
  size_t numbers = 0;
  for (size_t layer = 0; layer < layers_.size(); ++layer)
    for_sums(layer, [&](const std::vector<double>& sum) { numbers += sum.size(); });
  return numbers * sizeof(double);
}

void CalibrationDetails::add_tokens(Layer& layer, const DetailRows& rows) const {
  std::vector<TokenProducts> products(static_cast<size_t>(rows.rows));
  parallel_for(workers_, rows.rows,
               [&](int64_t row) { products[static_cast<size_t>(row)] = products_of(rows, row, hidden_); });
  const Rows<double> interaction = rows_of(layer.interaction, experts_);
  for (int64_t row = 0; row < rows.rows; ++row) {
    const TokenProducts& token = products[static_cast<size_t>(row)];
    const int32_t* expert = Rows(rows.expert, rows.slots)[row];
    const float* weight = Rows(rows.weight, rows.slots)[row];
    double yy = 0, hy = 0, together = 0;
    for (int32_t a = 0; a < rows.slots; ++a) {
      if (expert[a] < 0) continue;
      const auto i = static_cast<size_t>(a);
      const double g = static_cast<double>(weight[a]);
      hy += g * token.with_residual[i];
      together += g * std::sqrt(token.outputs[i][i]);
      for (int32_t b = a; b < rows.slots; ++b) {
        if (expert[b] < 0) continue;
        const double both = g * static_cast<double>(weight[b]) * token.outputs[i][static_cast<size_t>(b)];
        yy += a == b ? both : 2 * both;
        const auto [low, high] = std::minmax(expert[a], expert[b]);
        interaction[low][high] += both;
      }
    }
    const double change = change_of(token.residual, hy, yy), size = std::sqrt(std::max(yy, 0.0));
    for (int32_t a = 0; a < rows.slots; ++a) {
      if (expert[a] < 0) continue;
      const auto i = static_cast<size_t>(a), e = static_cast<size_t>(expert[a]);
      const double mine = static_cast<double>(weight[a]) * std::sqrt(token.outputs[i][i]);
      layer.change_norm[e] += change * mine;
      if (together > 0) layer.credit[e] += size * mine / together;
    }
  }
}

void CalibrationDetails::add(size_t index, const DetailRows& rows) {
  Layer& layer = layers_[index];
  add_tokens(layer, rows);
  parallel_for(workers_, experts_, [&](int64_t expert) {
    const auto e = static_cast<int32_t>(expert);
    double* const sum = rows_of(layer.output_sum, hidden_)[e];
    double* const gram = rows_of(layer.logit_gram, experts_)[e];
    for (int64_t slot = 0; slot < rows.rows * rows.slots; ++slot) {
      if (rows.expert[slot] != e) continue;
      const float* out = Rows(rows.slot_out, hidden_)[slot];
      for (int64_t i = 0; i < hidden_; ++i) sum[i] += static_cast<double>(out[i]);
    }
    for (int64_t row = 0; row < rows.rows; ++row) {
      const float* logits = Rows(rows.logits, experts_)[row];
      for (int32_t j = e; j < experts_; ++j)
        gram[j] += static_cast<double>(logits[e]) * static_cast<double>(logits[j]);
    }
  });
}

void CalibrationDetails::add_every_expert(size_t index, const std::vector<float>& outputs,
                                          const float* logits, int64_t rows) {
  Layer& layer = layers_[index];
  layer.dense_rows += rows;
  std::vector<double> probability(static_cast<size_t>(rows * experts_));
  const Rows<double> probabilities = rows_of(probability, experts_);
  for (int64_t row = 0; row < rows; ++row) {
    const float* z = Rows(logits, experts_)[row];
    double* p = probabilities[row];
    if (sigmoids_) {
      for (int32_t e = 0; e < experts_; ++e) p[e] = sigmoid_double(static_cast<double>(z[e]));
      continue;
    }
    const double most = static_cast<double>(*std::max_element(z, z + experts_));
    double sum = 0;
    for (int32_t e = 0; e < experts_; ++e) {
      const double below = static_cast<double>(z[e]) - most;
      sum += p[e] = below > -700 ? exponential_double(below) : 0.0;
    }
    for (int32_t e = 0; e < experts_; ++e) p[e] /= sum;
  }
  parallel_for(workers_, experts_, [&](int64_t expert) {
    const auto e = static_cast<int32_t>(expert);
    double* const mean = rows_of(layer.mean_output, hidden_)[e];
    double* const gated = rows_of(layer.gated_output, hidden_)[e];
    for (int64_t row = 0; row < rows; ++row) {
      const float* out = rows_of(outputs, hidden_)[row * experts_ + e];
      const double p = probabilities[row][e];
      for (int64_t i = 0; i < hidden_; ++i) {
        mean[i] += static_cast<double>(out[i]);
        gated[i] += p * static_cast<double>(out[i]);
      }
    }
  });
}

void CalibrationDetails::finish(size_t index, LayerStatistics& statistics) {
  Layer& layer = layers_[index];
  const auto count = static_cast<size_t>(experts_);
  const auto mirror = [&](std::vector<double> upper) {
    for (size_t i = 0; i < count; ++i) {
      for (size_t j = 0; j < i; ++j) upper[i * count + j] = upper[j * count + i];
    }
    return upper;
  };
  // <m_i, m_j> of sums over n tokens, divided by n twice.
  const auto gram = [&](const std::vector<double>& sums, double tokens) {
    std::vector<double> products(count * count, 0.0);
    const Rows<const double> sum = rows_of(sums, hidden_);
    for (size_t i = 0; i < count; ++i) {
      for (size_t j = i; j < count; ++j) {
        products[i * count + j] = dot(sum[i], sum[j], hidden_) / (tokens * tokens);
      }
    }
    return mirror(std::move(products));
  };
  for (size_t e = 0; e < count; ++e) {
    const double* sum = rows_of(layer.output_sum, hidden_)[e];
    statistics[ExpertSum::kOutputSumNorm].push_back(std::sqrt(dot(sum, sum, hidden_)));
  }
  statistics[ExpertSum::kChangeNorm] = std::move(layer.change_norm);
  statistics[ExpertSum::kCredit] = std::move(layer.credit);
  statistics[ExpertMatrix::kInteraction] = mirror(std::move(layer.interaction));
  statistics[ExpertMatrix::kLogitGram] = mirror(std::move(layer.logit_gram));
  if (layer.dense_rows > 0) {
    const auto tokens = static_cast<double>(layer.dense_rows);
    statistics[ExpertMatrix::kOutputGram] = gram(layer.mean_output, tokens);
    statistics[ExpertMatrix::kGatedOutputGram] = gram(layer.gated_output, tokens);
  }
}

}  // namespace eep
