// rope: the rotation, of a part of a head too, with a norm before it; and the table of cosines and sines with
// and without yarn.
#include "kernels/common/scalar_math.h"
#include "tests/kernels/ops/op_rows.h"

using namespace eep;
using namespace eep::test;

namespace {

constexpr int64_t kPositions = 100;

struct RopeProblem {
  RopeCase c;
  int64_t turning;  // of a head's elements
  Floats x, norm;
  RopeTable table;
  std::vector<int32_t> position;

  RopeProblem(const RopeCase& case_, int64_t turning_)
      : c(case_), turning(turning_), table(rope_table(kPositions, turning, 1e4)) {
    Data data(c.seed);
    x = data.floats(c.rows * width(), 3.0f);
    norm = data.floats(c.head_dim);
    for (int64_t row = 0; row < c.rows; ++row)
      position.push_back(static_cast<int32_t>(data.below(kPositions)));
  }
  int64_t width() const { return c.heads * c.head_dim; }
  int64_t heads() const { return c.rows * c.heads; }

  template <class Row>
  Floats run(int64_t first, int64_t rows, bool with_norm, const Device& device = Row::device()) const {
    const Input<Row, float> cosine(table.cosine), sine(table.sine), weight(norm);
    const Output<Row, float> out(slice(x, first * width(), rows * width()));
    RopeArgs args{out.data(), rows, c.heads, c.head_dim, position.data() + first, cosine.data(), sine.data()};
    if (with_norm) args.norm = weight.data();
    args.eps = 1e-5f;
    args.rotary_dim = turning == c.head_dim ? 0 : turning;
    call(Row(), args, device);
    return out.values();
  }

  // The CPU's norm, and its rotation of the turning parts on their own.
  Floats one_after_the_other(bool with_norm) const {
    Floats out = x, part;
    if (with_norm) rmsnorm_cpu({x.data(), heads(), c.head_dim, norm.data(), 1e-5f, out.data()}, cpu(1));
    for (int64_t head = 0; head < heads(); ++head) {
      const Floats one = slice(out, head * c.head_dim, turning);
      part.insert(part.end(), one.begin(), one.end());
    }
    rope_cpu({part.data(), c.rows, c.heads, turning, position.data(), table.cosine.data(), table.sine.data()},
             cpu(1));
    for (int64_t head = 0; head < heads(); ++head)
      std::copy_n(part.begin() + head * turning, turning, out.begin() + head * c.head_dim);
    return out;
  }
};

template <class Row>
void check_rope(const RopeProblem& p, bool with_norm) {
  const Floats out =
      Row::same_bits([&](const Device& device) { return p.run<Row>(0, p.c.rows, with_norm, device); });
  CHECK(same_bits(out, p.one_after_the_other(with_norm)));
}

}  // namespace

EVERY_ROW("rope: rotates within the bound, same bits everywhere, the CPU's") {
  for (const RopeCase& c : kRopeCases) {
    CAPTURE(c.seed);
    const RopeProblem p(c, c.head_dim);
    check_rope<Row>(p, false);
    const Floats out = p.run<Row>(0, c.rows, false);
    check_bounded(out, rope(p.x, c.rows, c.heads, c.head_dim, p.position, p.table.cosine, p.table.sine));
    same_bits_in_batches(out, c.rows, p.width(),
                         [&](int64_t first, int64_t rows) { return p.run<Row>(first, rows, false); });
  }
}

EVERY_ROW("rope: a part of each head turns, the rest is normalised alone, the CPU's bits") {
  for (const RopeCase& c : kRopeCases) {
    if (c.head_dim < 8) continue;
    CAPTURE(c.seed);
    for (const bool with_norm : {false, true})
      check_rope<Row>(RopeProblem(c, c.head_dim / 2 / 2 * 2), with_norm);
  }
}

EVERY_ROW("rope: a norm of every head has the bits of rmsnorm and rope one after the other") {
  for (const RopeCase& c : kRopeCases) {
    CAPTURE(c.seed);
    check_rope<Row>(RopeProblem(c, c.head_dim), true);
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
