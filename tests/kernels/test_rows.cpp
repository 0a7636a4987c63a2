// The ops that walk over rows: embed, rmsnorm, combine.
#include "kernels/clamp.h"
#include "kernels/embed.h"
#include "kernels/rmsnorm.h"
#include "tests/kernels/op_problems.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("embed: rows of the table, widened, from any alignment") {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const RowsCase& c : kRowsCases) {
      CAPTURE(c.seed);
      Data data(c.seed);
      const EmbedProblem problem(c, dtype, data);
      for (size_t shift : {size_t{0}, size_t{1}, size_t{3}}) {
        std::vector<char> file(problem.table.bytes.size() + shift);
        std::memcpy(file.data() + shift, problem.table.bytes.data(), problem.table.bytes.size());
        const Floats out = same_bits_everywhere([&](const Device& device) {
          Floats rows(static_cast<size_t>(c.rows * c.width));
          EmbedArgs args;
          args.table = Tensor(file.data() + shift, dtype, {EmbedProblem::kVocabulary, c.width});
          args.token = problem.token.data();
          args.rows = c.rows;
          args.out = rows.data();
          embed_cpu(args, device);
          return rows;
        });
        CHECK(same_bits(out, problem.expected));
      }
    }
  }
}

TEST_CASE("rmsnorm: within the bound, same bits everywhere, in place too") {
  for (const RowsCase& c : kRowsCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats x = data.floats(c.rows * c.width, 3.0f), weight = data.floats(c.width);
    const auto run = [&](int64_t first, int64_t rows, const Device& device) {
      Floats out(static_cast<size_t>(rows * c.width));
      RmsNormArgs args{x.data() + first * c.width, rows, c.width, weight.data(), 1e-5f, out.data()};
      rmsnorm_cpu(args, device);
      return out;
    };
    const Floats out = same_bits_everywhere([&](const Device& device) { return run(0, c.rows, device); });
    check_bounded(out, rmsnorm(x, weight, c.rows, c.width, static_cast<double>(1e-5f)));
    same_bits_in_batches(out, c.rows, c.width,
                         [&](int64_t first, int64_t rows) { return run(first, rows, cpu(1)); });
    Floats in_place = x;
    rmsnorm_cpu({in_place.data(), c.rows, c.width, weight.data(), 1e-5f, in_place.data()}, cpu(2));
    CHECK(same_bits(in_place, out));
  }
}

TEST_CASE("combine: weighted slots, skipped slots, shared expert with and without gate, shared outputs") {
  for (const RowsCase& c : kRowsCases) {
    for (CombineProblem::Variant variant : CombineProblem::kVariants) {
      CAPTURE(c.seed);
      CAPTURE(static_cast<int>(variant));
      const CombineProblem problem(c, variant);
      const Floats out =
          same_bits_everywhere([&](const Device& device) { return problem.run_cpu(0, c.rows, device); });
      same_bits_in_batches(out, c.rows, c.width,
                           [&](int64_t first, int64_t rows) { return problem.run_cpu(first, rows, cpu(1)); });
      check_bounded(out, problem.expected());
    }
  }
}

TEST_CASE("clamp: what is outside is held, the rest and NaN stay") {
  for (const RowsCase& c : kRowsCases) {
    Data data(c.seed);
    Floats x = data.floats(c.rows * c.width, 3.0f);
    if (!x.empty()) x[x.size() / 2] = std::nanf("");
    const Floats out = same_bits_everywhere([&](const Device& device) {
      Floats held = x;
      clamp_cpu({held.data(), c.rows * c.width, 0.75f}, device);
      return held;
    });
    Floats expected = x;
    for (float& value : expected) {
      if (std::fabs(value) > 0.75f) value = std::copysign(0.75f, value);
    }
    CHECK(same_bits(out, expected));
  }
}
