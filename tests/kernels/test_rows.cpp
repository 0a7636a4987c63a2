// The ops that walk over rows: embed, rmsnorm, combine.
#include <algorithm>

#include "kernels/combine.h"
#include "kernels/embed.h"
#include "kernels/rmsnorm.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("embed: rows of the table, widened, from any alignment") {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const RowsCase& c : kRowsCases) {
      CAPTURE(c.seed);
      Data data(c.seed);
      const int64_t vocabulary = 19;
      const Typed table(data.floats(vocabulary * c.width), dtype);
      std::vector<int32_t> token;
      Floats expected;
      for (int64_t row = 0; row < c.rows; ++row) {
        token.push_back(static_cast<int32_t>(data.below(vocabulary)));
        const auto begin = table.values.begin() + token.back() * c.width;
        expected.insert(expected.end(), begin, begin + c.width);
      }
      for (size_t shift : {size_t{0}, size_t{1}, size_t{3}}) {
        std::vector<char> file(table.bytes.size() + shift);
        std::memcpy(file.data() + shift, table.bytes.data(), table.bytes.size());
        const Floats out = same_bits_everywhere([&](const Device& device) {
          Floats rows(static_cast<size_t>(c.rows * c.width));
          EmbedArgs args;
          args.table = Tensor(file.data() + shift, dtype, {vocabulary, c.width});
          args.token = token.data();
          args.rows = c.rows;
          args.out = rows.data();
          embed_cpu(args, device);
          return rows;
        });
        CHECK(same_bits(out, expected));
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
    for (int variant = 0; variant < 4; ++variant) {  // 0: slots alone; 1: shared; 2: gated; 3: slot_row
      CAPTURE(c.seed);
      CAPTURE(variant);
      Data data(c.seed);
      const int32_t slots = 1 + static_cast<int32_t>(data.below(4));
      const Floats slot_out = data.floats(c.rows * slots * c.width), weight = data.floats(c.rows * slots);
      const Floats shared = data.floats(c.rows * c.width), gate = data.floats(c.rows, 4.0f);
      const Floats residual = data.floats(c.rows * c.width);
      std::vector<int32_t> expert, slot_row;
      for (int64_t slot = 0; slot < c.rows * slots; ++slot) {
        expert.push_back(data.uniform() < 0.2 ? -1 : 3);
        slot_row.push_back(static_cast<int32_t>(data.below(slot + 1)));
      }
      const auto run = [&](int64_t first, int64_t rows, const Device& device) {
        Floats out(residual.begin() + first * c.width, residual.begin() + (first + rows) * c.width);
        CombineArgs args;
        args.slot_out = slot_out.data() + (variant == 3 ? 0 : first * slots * c.width);
        args.weight = weight.data() + first * slots;
        args.expert = expert.data() + first * slots;
        args.rows = rows;
        args.slots = slots;
        args.hidden = c.width;
        if (variant == 1 || variant == 2) args.shared_out = shared.data() + first * c.width;
        if (variant == 2) args.shared_gate = gate.data() + first;
        if (variant == 3) args.slot_row = slot_row.data() + first * slots;
        args.residual = out.data();
        combine_cpu(args, device);
        return out;
      };
      const Floats out = same_bits_everywhere([&](const Device& device) { return run(0, c.rows, device); });
      same_bits_in_batches(out, c.rows, c.width,
                           [&](int64_t first, int64_t rows) { return run(first, rows, cpu(1)); });
      std::vector<Bounded> expected;
      for (int64_t row = 0; row < c.rows; ++row) {
        for (int64_t i = 0; i < c.width; ++i) {
          double sum = 0, magnitude = 0;
          const auto add = [&](double scale, float value) {
            sum += scale * static_cast<double>(value);
            magnitude += std::fabs(scale * static_cast<double>(value));
          };
          for (int64_t slot = row * slots; slot < (row + 1) * slots; ++slot) {
            if (expert[static_cast<size_t>(slot)] < 0) continue;
            const int64_t source = variant == 3 ? slot_row[static_cast<size_t>(slot)] : slot;
            add(static_cast<double>(weight[static_cast<size_t>(slot)]),
                slot_out[static_cast<size_t>(source * c.width + i)]);
          }
          const double g = 1 / (1 + std::exp(-static_cast<double>(gate[static_cast<size_t>(row)])));
          if (variant == 1 || variant == 2)
            add(variant == 2 ? g : 1, shared[static_cast<size_t>(row * c.width + i)]);
          add(1, residual[static_cast<size_t>(row * c.width + i)]);
          expected.push_back(
              {sum, gamma_n(slots + 2 + 8) * magnitude + kTiny});  // 8: the sigmoid's own error
        }
      }
      check_bounded(out, expected);
    }
  }
}
