// rope: the rotation, and the table of cosines and sines with and without yarn.
#include "kernels/common/scalar_math.h"
#include "kernels/rope.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("rope: rotates within the bound, same bits everywhere") {
  for (const RopeCase& c : kRopeCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const RopeTable table = rope_table(100, c.head_dim, 1e4);
    const Floats x = data.floats(c.rows * c.heads * c.head_dim);
    std::vector<int32_t> position;
    for (int64_t row = 0; row < c.rows; ++row) position.push_back(static_cast<int32_t>(data.below(100)));
    const int64_t width = c.heads * c.head_dim;
    const auto run = [&](int64_t first, int64_t rows, const Device& device) {
      Floats out(x.begin() + first * width, x.begin() + (first + rows) * width);
      RopeArgs args;
      args.x = out.data();
      args.rows = rows;
      args.heads = c.heads;
      args.head_dim = c.head_dim;
      args.position = position.data() + first;
      args.cosine = table.cosine.data();
      args.sine = table.sine.data();
      rope_cpu(args, device);
      return out;
    };
    const Floats out = same_bits_everywhere([&](const Device& device) { return run(0, c.rows, device); });
    check_bounded(out, rope(x, c.rows, c.heads, c.head_dim, position, table.cosine, table.sine));
    same_bits_in_batches(out, c.rows, width,
                         [&](int64_t first, int64_t rows) { return run(first, rows, cpu(1)); });
  }
}

TEST_CASE("rope_table: cos and sin of f32 angles, correctly rounded but for a hair") {
  for (double theta : {1e4, 1e6}) {
    const int64_t head_dim = 64;
    const RopeTable table = rope_table(5000, head_dim, theta);
    double worst = 0;
    for (int64_t position : {0, 1, 2, 77, 4999}) {
      for (int64_t pair = 0; pair < head_dim / 2; ++pair) {
        const float power = static_cast<float>(std::pow(
            theta, static_cast<double>(static_cast<float>(2 * pair) / static_cast<float>(head_dim))));
        const float angle = static_cast<float>(position) * (1.0f / power);
        const size_t at = static_cast<size_t>(position * (head_dim / 2) + pair);
        for (auto [actual, exact] : {std::pair(table.cosine[at], std::cos(static_cast<double>(angle))),
                                     std::pair(table.sine[at], std::sin(static_cast<double>(angle)))}) {
          worst = std::max(
              worst, std::fabs(static_cast<double>(actual) - exact) / (kUnit * std::fabs(exact) + kTiny));
        }
      }
    }
    CAPTURE(worst);
    CHECK(worst <= 1.0 + 1e-6);  // half an ulp is at most one unit roundoff; a hair for the double functions
  }
}

TEST_CASE("rope_table: yarn blends the frequencies") {
  // The formula in double: ramp_i between floor(corr(fast)) and ceil(corr(slow)); the angle in f32 is off by
  // position * frequency * 8u, which bounds the error of its sine and cosine.
  const int64_t head_dim = 128;
  const double theta = 1e6, pi = std::acos(-1.0);
  RopeScaling scaling;
  scaling.factor = 4;
  scaling.original_max_position = 32768;
  for (bool truncate : {true, false}) {
    for (double attention_factor : {0.0, 1.25}) {
      scaling.truncate = truncate;
      scaling.attention_factor = attention_factor;
      const RopeTable table = rope_table(300, head_dim, theta, scaling);
      const auto corr = [&](double r) {
        return head_dim * std::log(32768 / (2 * pi * r)) / (2 * std::log(theta));
      };
      double low = corr(32), high = corr(1);
      if (truncate) {
        low = std::floor(low);
        high = std::ceil(high);
      }
      const double factor = attention_factor != 0 ? attention_factor : 0.1 * std::log(4.0) + 1;
      Floats actual;
      std::vector<Bounded> expected;
      for (int64_t position : {0, 1, 299}) {
        for (int64_t pair = 0; pair < head_dim / 2; ++pair) {
          const double unscaled = std::pow(theta, -2.0 * static_cast<double>(pair) / head_dim);
          const double ramp = std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
          const double frequency = unscaled / 4 * ramp + unscaled * (1 - ramp);
          const double angle = static_cast<double>(position) * frequency;
          const double bound =
              factor * (angle + static_cast<double>(position) * unscaled) * 8 * kUnit + 2 * kUnit * factor;
          const size_t at = static_cast<size_t>(position * (head_dim / 2) + pair);
          actual.push_back(table.cosine[at]);
          expected.push_back({std::cos(angle) * factor, bound});
          actual.push_back(table.sine[at]);
          expected.push_back({std::sin(angle) * factor, bound});
        }
      }
      check_bounded(actual, expected);
    }
  }
}

TEST_CASE("scalar_math: log, exp, sine and cosine within their stated ulp") {
  Data data(3);
  const auto ulps = [](double actual, double exact) {
    return std::fabs(actual - exact) /
           std::ldexp(1.0, std::max(std::ilogb(exact == 0 ? 1e-300 : exact), -50) - 52);
  };
  double log_worst = 0, exp_worst = 0, sin_worst = 0, cos_worst = 0;
  for (int i = 0; i < 20000; ++i) {
    const double x = std::exp((data.uniform() * 2 - 1) * 100), y = (data.uniform() * 2 - 1) * 600;
    const double angle = (data.uniform() * 2 - 1) * std::exp(data.uniform() * 13);
    log_worst = std::max(log_worst, ulps(logarithm(x), std::log(x)));
    exp_worst = std::max(exp_worst, std::fabs(exponential_double(y) / std::exp(y) - 1) / 0x1p-52);
    const SineCosine value = sine_cosine(angle);
    sin_worst = std::max(sin_worst, ulps(value.sine, std::sin(angle)));
    cos_worst = std::max(cos_worst, ulps(value.cosine, std::cos(angle)));
  }
  // The functions of the C library, the yardstick here, are off by up to one ulp themselves.
  CHECK(log_worst <= 2);
  CHECK(exp_worst <= 3);
  CHECK(sin_worst <= 2);
  CHECK(cos_worst <= 2);
  CHECK(logarithm(1.0) == 0.0);
  CHECK(exponential_double(0.0) == 1.0);
  CHECK(std::isinf(logarithm(0.0)));
  CHECK(std::isnan(logarithm(-1.0)));
  CHECK(std::isnan(logarithm(std::nan(""))));
}
