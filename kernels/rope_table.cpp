// rope_table: inv_freq[i] = theta^(-2i/d), yarn's blend of scaled and unscaled frequencies, then cos and sin
// of position * inv_freq. Each step that Hugging Face computes in f32 is rounded to f32 here.
#include <algorithm>
#include <cmath>

#include "kernels/common/scalar_math.h"
#include "kernels/rope.h"

namespace eep {
namespace {

constexpr double kPi = 3.14159265358979311600e+00;

// The pair index at which a wavelength makes `rotations` turns within the original context.
double correction(double rotations, double head_dim, double theta, double original_max_position) {
  return head_dim * logarithm(original_max_position / (rotations * 2 * kPi)) / (2 * logarithm(theta));
}

// Share of pair i that is interpolated (frequency divided by the factor), 0 for fast pairs, 1 for slow ones.
struct Ramp {
  float low, high;

  Ramp(double head_dim, double theta, const RopeScaling& scaling) {
    double first = correction(scaling.beta_fast, head_dim, theta, scaling.original_max_position);
    double last = correction(scaling.beta_slow, head_dim, theta, scaling.original_max_position);
    if (scaling.truncate) {
      first = std::floor(first);
      last = std::ceil(last);
    }
    first = std::max(first, 0.0);
    last = std::min(last, head_dim - 1);
    if (first == last) last += 0.001;
    low = static_cast<float>(first);
    high = static_cast<float>(last);
  }

  float operator()(int64_t pair) const {
    return std::clamp((static_cast<float>(pair) - low) / (high - low), 0.0f, 1.0f);
  }
};

std::vector<float> inverse_frequencies(int64_t head_dim, double theta, const RopeScaling& scaling) {
  const bool yarn = scaling.factor != 1;
  std::vector<float> result(static_cast<size_t>(head_dim / 2));
  for (int64_t pair = 0; pair < head_dim / 2; ++pair) {
    const float exponent = static_cast<float>(2 * pair) / static_cast<float>(head_dim);
    const float wavelength =
        static_cast<float>(exponential_double(exponent * logarithm(theta)));  // over 2 pi
    const float unscaled = 1.0f / wavelength;
    float& frequency = result[static_cast<size_t>(pair)];
    frequency = unscaled;
    if (yarn) {
      const float kept = 1.0f - Ramp(static_cast<double>(head_dim), theta, scaling)(pair);
      const float scaled = 1.0f / (static_cast<float>(scaling.factor) * wavelength);
      frequency = scaled * (1.0f - kept) + unscaled * kept;
    }
  }
  return result;
}

}  // namespace

RopeTable rope_table(int64_t positions, int64_t head_dim, double theta, const RopeScaling& scaling) {
  RopeTable table;
  table.positions = positions;
  table.pairs = head_dim / 2;
  table.cosine.reserve(static_cast<size_t>(positions * table.pairs));
  table.sine.reserve(static_cast<size_t>(positions * table.pairs));
  float factor = 1;
  if (scaling.factor != 1) {
    const double by_default = scaling.factor > 1 ? 0.1 * logarithm(scaling.factor) + 1 : 1;
    factor = static_cast<float>(scaling.attention_factor != 0 ? scaling.attention_factor : by_default);
  }
  const std::vector<float> frequencies = inverse_frequencies(head_dim, theta, scaling);
  for (int64_t position = 0; position < positions; ++position) {
    for (float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      const SineCosine value = sine_cosine(angle);
      table.cosine.push_back(static_cast<float>(value.cosine) * factor);
      table.sine.push_back(static_cast<float>(value.sine) * factor);
    }
  }
  return table;
}

}  // namespace eep
