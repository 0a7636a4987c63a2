// The ops that walk over rows: embed, rmsnorm, round_rows, clamp, kv_scatter, combine, noise. Within the
// bounds of the double-precision references; a GPU's bits are the CPU's.
#include "tests/kernels/ops/op_rows.h"

using namespace eep;
using namespace eep::test;

EVERY_ROW("embed: rows of the table, widened; on the CPU from any alignment") {
  constexpr int64_t kVocabulary = 19;
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const RowsCase& c : kRowsCases) {
      for (int64_t shift : Row::kHost ? std::vector<int64_t>{0, 1, 3} : std::vector<int64_t>{0}) {
        CAPTURE(c.seed);
        CAPTURE(shift);
        Data data(c.seed);
        const Typed table(data.floats(kVocabulary * c.width), dtype);
        const Input<Row, char> bytes(table.bytes, 0, static_cast<int64_t>(table.bytes.size()), shift);
        std::vector<int32_t> token;
        Floats expected;
        for (int64_t row = 0; row < c.rows; ++row) {
          token.push_back(static_cast<int32_t>(data.below(kVocabulary)));
          const auto begin = table.values.begin() + token.back() * c.width;
          expected.insert(expected.end(), begin, begin + c.width);
        }
        const Floats out = Row::same_bits([&](const Device& device) {
          const Output<Row, float> rows(c.rows * c.width);
          EmbedArgs args;
          args.table = Tensor(bytes.data(), dtype, {kVocabulary, c.width});
          args.token = token.data();
          args.rows = c.rows;
          args.out = rows.data();
          call(Row(), args, device);
          return rows.values();
        });
        CHECK(same_bits(out, expected));
      }
    }
  }
}

EVERY_ROW("rmsnorm: within the bound, same bits everywhere, the CPU's, in place and in 16 bits too") {
  for (const RowsCase& c : kRowsCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats x = data.floats(c.rows * c.width, 3.0f), weight = data.floats(c.width);
    const Input<Row, float> weight_in(weight), in(x);
    const auto run = [&](int64_t first, int64_t rows, const Device& device) {
      const Input<Row, float> part(x, first * c.width, rows * c.width);
      const Output<Row, float> out(rows * c.width);
      call(Row(), RmsNormArgs{part.data(), rows, c.width, weight_in.data(), 1e-5f, out.data()}, device);
      return out.values();
    };
    const Floats out = Row::same_bits([&](const Device& device) { return run(0, c.rows, device); });
    check_bounded(out, rmsnorm(x, weight, c.rows, c.width, static_cast<double>(1e-5f)));
    same_bits_in_batches(out, c.rows, c.width,
                         [&](int64_t first, int64_t rows) { return run(first, rows, Row::device()); });
    Floats on_cpu(x.size());
    rmsnorm_cpu({x.data(), c.rows, c.width, weight.data(), 1e-5f, on_cpu.data()}, cpu(1));
    CHECK(same_bits(out, on_cpu));
    for (DType dtype : Row::kRoundTo) {  // in 16 bits as well, or alone
      const Output<Row, float> again(c.rows * c.width);
      const int64_t size = c.rows * row_stride_16bit(c.width);
      const Output<Row, uint16_t> bits(size, uint16_t{0xffff}), alone(size, uint16_t{0xffff});
      RmsNormArgs args{in.data(), c.rows, c.width, weight_in.data(), 1e-5f, again.data(), bits.data(), dtype};
      call(Row(), args, Row::device());
      args.out = nullptr;
      args.out16 = alone.data();
      call(Row(), args, Row::device());
      CHECK(same_bits(again.values(), out));
      CHECK(same_bits(bits.values(), rows_16bit(out, c.rows, c.width, dtype)));
      CHECK(same_bits(alone.values(), bits.values()));
    }
    const Output<Row, float> in_place(x);
    call(Row(), RmsNormArgs{in_place.data(), c.rows, c.width, weight_in.data(), 1e-5f, in_place.data()},
         Row::device());
    CHECK(same_bits(in_place.values(), out));
  }
}

EVERY_ROW("round_rows: nearest even, zeros beyond the row, at any address") {
  for (DType dtype : Row::kRoundTo) {
    for (const RowsCase& c : kRowsCases) {
      for (int64_t shift : {0, 1}) {
        CAPTURE(c.seed);
        const Floats x = Data(c.seed).floats(c.rows * c.width, 100.0f);
        const Input<Row, float> in(x, 0, c.rows * c.width, shift);
        const std::vector<uint16_t> out = Row::same_bits([&](const Device& device) {
          const Output<Row, uint16_t> bits(c.rows * row_stride_16bit(c.width), uint16_t{0x7fff});
          call(Row(), RoundRowsArgs{in.data(), c.rows, c.width, dtype, bits.data()}, device);
          return bits.values();
        });
        CHECK(same_bits(out, rows_16bit(x, c.rows, c.width, dtype)));
      }
    }
  }
}

EVERY_ROW("clamp: what is outside is held, the rest and NaN stay") {
  for (const RowsCase& c : kRowsCases) {
    CAPTURE(c.seed);
    Floats x = Data(c.seed).floats(c.rows * c.width, 3.0f);
    x[x.size() / 2] = std::nanf("");
    const Floats out = Row::same_bits([&](const Device& device) {
      const Output<Row, float> held(x);
      call(Row(), ClampArgs{held.data(), c.rows * c.width, 0.75f}, device);
      return held.values();
    });
    Floats expected = x;
    for (float& value : expected) {
      if (std::fabs(value) > 0.75f) value = std::copysign(0.75f, value);
    }
    CHECK(same_bits(out, expected));
  }
}

EVERY_ROW("kv_scatter: each row's keys and values at their places, nothing else") {
  for (const RowsCase& c : kRowsCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats k = data.floats(c.rows * c.width), v = data.floats(c.rows * c.width);
    // Places in reverse order with a row between them, values behind the keys.
    const int64_t values_at = 2 * c.rows * c.width;
    const Floats before = data.floats(2 * values_at);
    Floats expected = before;
    const auto place = [&](int64_t row) { return (2 * (c.rows - row) - 1) * c.width; };
    for (int64_t row = 0; row < c.rows; ++row) {
      std::copy_n(k.begin() + row * c.width, c.width, expected.begin() + place(row));
      std::copy_n(v.begin() + row * c.width, c.width, expected.begin() + values_at + place(row));
    }
    const Input<Row, float> keys(k), values(v);
    const Floats out = Row::same_bits([&](const Device& device) {
      const Output<Row, float> cache(before);
      std::vector<KvPlace> places;
      for (int64_t row = 0; row < c.rows; ++row)
        places.push_back({cache.data() + place(row), cache.data() + values_at + place(row)});
      call(Row(), KvScatterArgs{keys.data(), values.data(), places.data(), c.rows, c.width}, device);
      return cache.values();
    });
    CHECK(same_bits(out, expected));
  }
}

namespace {

// Weighted slots, some of them skipped.
struct CombineProblem {
  enum Variant { kSlotsAlone, kShared, kGated, kSlotRow };
  static constexpr Variant kVariants[] = {kSlotsAlone, kShared, kGated, kSlotRow};
  RowsCase c;
  Variant variant;
  int32_t slots;
  Floats slot_out, weight, shared, gate, residual;
  std::vector<int32_t> expert, slot_row;

  CombineProblem(const RowsCase& case_, Variant variant_) : c(case_), variant(variant_) {
    Data data(c.seed);
    slots = 1 + static_cast<int32_t>(data.below(11));
    slot_out = data.floats(c.rows * slots * c.width);
    weight = data.floats(c.rows * slots);
    shared = data.floats(c.rows * c.width);
    gate = data.floats(c.rows, 4.0f);
    residual = data.floats(c.rows * c.width);
    for (int64_t slot = 0; slot < c.rows * slots; ++slot) {
      expert.push_back(data.uniform() < 0.2 ? -1 : 3);
      slot_row.push_back(static_cast<int32_t>(data.below(slot + 1)));
    }
  }

  std::vector<Bounded> expected() const {
    std::vector<Bounded> out;
    for (int64_t row = 0; row < c.rows; ++row) {
      for (int64_t i = 0; i < c.width; ++i) {
        double sum = 0, magnitude = 0;
        const auto add = [&](double scale, float value) {
          sum += scale * static_cast<double>(value);
          magnitude += std::fabs(scale * static_cast<double>(value));
        };
        for (int64_t slot = row * slots; slot < (row + 1) * slots; ++slot) {
          if (expert[static_cast<size_t>(slot)] < 0) continue;
          const int64_t source = variant == kSlotRow ? slot_row[static_cast<size_t>(slot)] : slot;
          add(static_cast<double>(weight[static_cast<size_t>(slot)]),
              slot_out[static_cast<size_t>(source * c.width + i)]);
        }
        const double g = 1 / (1 + std::exp(-static_cast<double>(gate[static_cast<size_t>(row)])));
        if (variant == kShared || variant == kGated) {
          add(variant == kGated ? g : 1, shared[static_cast<size_t>(row * c.width + i)]);
        }
        add(1, residual[static_cast<size_t>(row * c.width + i)]);
        out.push_back({sum, gamma_n(slots + 2 + 8) * magnitude + kTiny});  // 8: the sigmoid's own error
      }
    }
    return out;
  }
};

template <class Row>
struct CombineRow {
  const CombineProblem& p;
  Input<Row, float> slot_out, weight, shared, gate;
  Input<Row, int32_t> expert, slot_row;

  explicit CombineRow(const CombineProblem& problem)
      : p(problem),
        slot_out(p.slot_out),
        weight(p.weight),
        shared(p.shared),
        gate(p.gate),
        expert(p.expert),
        slot_row(p.slot_row) {}

  // Rows [first, first + rows), which begin `shift` floats behind a start of memory.
  Floats run(int64_t first, int64_t rows, const Device& device = Row::device(), int64_t shift = 0) const {
    const int64_t width = p.c.width;
    const Output<Row, float> out(slice(p.residual, first * width, rows * width, shift));
    CombineArgs args;
    args.slot_out = slot_out.data() + (p.variant == CombineProblem::kSlotRow ? 0 : first * p.slots * width);
    args.weight = weight.data() + first * p.slots;
    args.expert = expert.data() + first * p.slots;
    args.rows = rows;
    args.slots = p.slots;
    args.hidden = width;
    if (p.variant == CombineProblem::kGated) args.shared_gate = gate.data() + first;
    if (p.variant == CombineProblem::kGated || p.variant == CombineProblem::kShared)
      args.shared_out = shared.data() + first * width;
    if (p.variant == CombineProblem::kSlotRow) args.slot_row = slot_row.data() + first * p.slots;
    args.residual = out.data() + shift;
    call(Row(), args, device);
    return out.values();
  }
};

}  // namespace

EVERY_ROW("combine: weighted slots, skipped slots, shared expert with and without gate, shared outputs") {
  for (const RowsCase& c : kRowsCases) {
    for (CombineProblem::Variant variant : CombineProblem::kVariants) {
      CAPTURE(c.seed);
      CAPTURE(static_cast<int>(variant));
      const CombineProblem p(c, variant);
      const CombineRow<Row> on(p);
      const Floats out = Row::same_bits([&](const Device& device) { return on.run(0, c.rows, device); });
      check_bounded(out, p.expected());
      CHECK(same_bits(out, CombineRow<Cpu>(p).run(0, c.rows)));
      same_bits_in_batches(out, c.rows, c.width,
                           [&](int64_t first, int64_t rows) { return on.run(first, rows); });
      const Floats behind = on.run(0, c.rows, Row::device(), 1);  // rows that do not start at 16 bytes
      CHECK(same_bits(slice(behind, 1, c.rows * c.width), out));
      CHECK(behind[0] == 0.0f);
    }
  }
}

EVERY_ROW("noise: same bits everywhere, the CPU's, in every dtype, each element from its own word") {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t count : {1, 4, 31, 1030}) {
      const int64_t size = static_cast<int64_t>(dtype_size(dtype));
      NoiseArgs args{nullptr, dtype, count, 0x123456789abcdefu, 7, 0.25f};
      const auto run = [&](const Device& device) {
        const Output<Row, char> memory(args.count * size);
        args.out = memory.data();
        call(Row(), args, device);
        return memory.values();
      };
      const std::vector<char> out = Row::same_bits(run);
      std::vector<char> on_cpu(out.size());
      args.out = on_cpu.data();
      noise_cpu(args, cpu(2));
      CHECK(same_bits(out, on_cpu));
      if (count > 12) {  // a window of the same array
        args.first = 12;
        args.count = count - 12;
        CHECK(same_bits(run(Row::device()), slice(out, 12 * size, args.count * size)));
      }
      if (dtype != DType::kF32) continue;
      for (int64_t i = 0; i < count; ++i) {
        float value = 0;
        std::memcpy(&value, out.data() + 4 * i, 4);
        const auto words = philox({static_cast<uint32_t>(i / 4), 0, 7, 0}, args.seed);
        const double u = static_cast<double>(philox_uniform(words[static_cast<size_t>(i % 4)]));
        CHECK(std::fabs(static_cast<double>(value) - (2 * u - 1) * 0.25) <= 0.25 * kUnit);
      }
    }
  }
}
