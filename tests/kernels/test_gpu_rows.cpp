// The GPU's ops that walk over rows, on the host executor: embed, rmsnorm, rope, combine, noise. Within the
// bounds of the double-precision references, and with the bits of the CPU.
#include <map>
#include <type_traits>

#include "kernels/clamp.h"
#include "kernels/embed.h"
#include "kernels/kv_scatter.h"
#include "kernels/noise.h"
#include "kernels/rmsnorm.h"
#include "kernels/rope.h"
#include "tests/kernels/gpu_matrices.h"
#include "tests/kernels/op_problems.h"

using namespace eep;
using namespace eep::test;

TEST_CASE("gpu embed: rows of the table, widened") {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const RowsCase& c : kRowsCases) {
      CAPTURE(c.seed);
      Data data(c.seed);
      const EmbedProblem problem(c, dtype, data);
      const OnDevice<char> memory(problem.table.bytes);
      const Floats out = same_bits_in_schedules([&] {
        const OnDevice<float> rows(c.rows * c.width);
        EmbedArgs args;
        args.table = Tensor(memory.data(), dtype, {EmbedProblem::kVocabulary, c.width});
        args.token = problem.token.data();
        args.rows = c.rows;
        args.out = rows.data();
        GPU_ROW(embed)(args, gpu_device());
        return rows.values();
      });
      CHECK(same_bits(out, problem.expected));
    }
  }
}

TEST_CASE("gpu rmsnorm: within the bound, the CPU's bits, in place too") {
  for (const RowsCase& c : kRowsCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats x = data.floats(c.rows * c.width, 3.0f), weight = data.floats(c.width);
    const OnDevice<float> on_device(weight);
    const auto run = [&](int64_t first, int64_t rows) {
      const OnDevice<float> in(Floats(x.begin() + first * c.width, x.begin() + (first + rows) * c.width));
      const OnDevice<float> out(rows * c.width);
      GPU_ROW(rmsnorm)({in.data(), rows, c.width, on_device.data(), 1e-5f, out.data()}, gpu_device());
      return out.values();
    };
    const Floats out = same_bits_in_schedules([&] { return run(0, c.rows); });
    check_bounded(out, rmsnorm(x, weight, c.rows, c.width, static_cast<double>(1e-5f)));
    same_bits_in_batches(out, c.rows, c.width, run);
    Floats on_cpu(x.size());
    rmsnorm_cpu({x.data(), c.rows, c.width, weight.data(), 1e-5f, on_cpu.data()}, cpu(1));
    CHECK(same_bits(out, on_cpu));
    for (DType dtype : {DType::kBF16, DType::kF16}) {  // in 16 bits as well, or alone
      const OnDevice<float> in(x), again(c.rows * c.width);
      const OnDevice<uint16_t> bits(c.rows * row_stride_16bit(c.width)), alone(bits.size());
      GPU_ROW(rmsnorm)
      ({in.data(), c.rows, c.width, on_device.data(), 1e-5f, again.data(), bits.data(), dtype}, gpu_device());
      GPU_ROW(rmsnorm)
      ({in.data(), c.rows, c.width, on_device.data(), 1e-5f, nullptr, alone.data(), dtype}, gpu_device());
      CHECK(same_bits(again.values(), out));
      CHECK(same_bits(bits.values(), rows_16bit(out, c.rows, c.width, dtype)));
      CHECK(same_bits(alone.values(), bits.values()));
    }
    const OnDevice<float> in_place(x);
    GPU_ROW(rmsnorm)
    ({in_place.data(), c.rows, c.width, on_device.data(), 1e-5f, in_place.data()}, gpu_device());
    CHECK(same_bits(in_place.values(), out));
  }
}

TEST_CASE("gpu clamp: the CPU's bits") {
  for (const RowsCase& c : kRowsCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const Floats x = data.floats(c.rows * c.width, 3.0f);
    Floats held = x;
    clamp_cpu({held.data(), c.rows * c.width, 0.75f}, cpu(1));
    const Floats out = same_bits_in_schedules([&] {
      const OnDevice<float> in_place(x);
      GPU_ROW(clamp)({in_place.data(), c.rows * c.width, 0.75f}, gpu_device());
      return in_place.values();
    });
    CHECK(same_bits(out, held));
  }
}

TEST_CASE("gpu rope: rotates within the bound, the CPU's bits") {
  for (const RopeCase& c : kRopeCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const RopeTable table = rope_table(100, c.head_dim, 1e4);
    const OnDevice<float> cosine(table.cosine), sine(table.sine);
    const int64_t width = c.heads * c.head_dim;
    const Floats x = data.floats(c.rows * width);
    std::vector<int32_t> position;
    for (int64_t row = 0; row < c.rows; ++row) position.push_back(static_cast<int32_t>(data.below(100)));
    const auto run = [&](int64_t first, int64_t rows) {
      const OnDevice<float> out(Floats(x.begin() + first * width, x.begin() + (first + rows) * width));
      GPU_ROW(rope)
      ({out.data(), rows, c.heads, c.head_dim, position.data() + first, cosine.data(), sine.data()},
       gpu_device());
      return out.values();
    };
    const Floats out = same_bits_in_schedules([&] { return run(0, c.rows); });
    check_bounded(out, rope(x, c.rows, c.heads, c.head_dim, position, table.cosine, table.sine));
    same_bits_in_batches(out, c.rows, width, run);
    Floats on_cpu = x;
    rope_cpu(
        {on_cpu.data(), c.rows, c.heads, c.head_dim, position.data(), table.cosine.data(), table.sine.data()},
        cpu(1));
    CHECK(same_bits(out, on_cpu));
  }
}

TEST_CASE("gpu rope: a part of each head turns, the rest is normalised alone, the CPU's bits") {
  for (const RopeCase& c : kRopeCases) {
    if (c.head_dim < 8) continue;
    const int64_t turning = c.head_dim / 2 / 2 * 2, heads = c.rows * c.heads;
    CAPTURE(c.seed);
    Data data(c.seed);
    const RopeTable table = rope_table(100, turning, 1e4);
    const Floats x = data.floats(heads * c.head_dim, 3.0f), norm = data.floats(c.head_dim);
    const OnDevice<float> cosine(table.cosine), sine(table.sine), weight(norm);
    std::vector<int32_t> position;
    for (int64_t row = 0; row < c.rows; ++row) position.push_back(static_cast<int32_t>(data.below(100)));
    for (const bool with_norm : {false, true}) {
      // The parts on their own: heads of `turning` elements, and what is left of each.
      Floats normed = x;
      if (with_norm) rmsnorm_cpu({x.data(), heads, c.head_dim, norm.data(), 1e-5f, normed.data()}, cpu(1));
      Floats part, expected = normed;
      for (int64_t head = 0; head < heads; ++head)
        part.insert(part.end(), normed.begin() + head * c.head_dim,
                    normed.begin() + head * c.head_dim + turning);
      rope_cpu(
          {part.data(), c.rows, c.heads, turning, position.data(), table.cosine.data(), table.sine.data()},
          cpu(1));
      for (int64_t head = 0; head < heads; ++head)
        std::copy_n(part.begin() + head * turning, turning, expected.begin() + head * c.head_dim);

      Floats on_cpu = x;
      rope_cpu({on_cpu.data(), c.rows, c.heads, c.head_dim, position.data(), table.cosine.data(),
                table.sine.data(), with_norm ? norm.data() : nullptr, 1e-5f, turning},
               cpu(1));
      CHECK(same_bits(on_cpu, expected));
      const Floats out = same_bits_in_schedules([&] {
        const OnDevice<float> in_place(x);
        GPU_ROW(rope)
        ({in_place.data(), c.rows, c.heads, c.head_dim, position.data(), cosine.data(), sine.data(),
          with_norm ? weight.data() : nullptr, 1e-5f, turning},
         gpu_device());
        return in_place.values();
      });
      CHECK(same_bits(out, expected));
    }
  }
}

TEST_CASE(
    "gpu rope: a norm of every head has the bits of rmsnorm and rope one after the other, on the CPU too") {
  for (const RopeCase& c : kRopeCases) {
    CAPTURE(c.seed);
    Data data(c.seed);
    const RopeTable table = rope_table(100, c.head_dim, 1e4);
    const int64_t heads = c.rows * c.heads;
    const Floats x = data.floats(heads * c.head_dim, 3.0f), norm = data.floats(c.head_dim);
    const OnDevice<float> cosine(table.cosine), sine(table.sine), weight(norm);
    std::vector<int32_t> position;
    for (int64_t row = 0; row < c.rows; ++row) position.push_back(static_cast<int32_t>(data.below(100)));
    RopeArgs args{nullptr,          c.rows, c.heads, c.head_dim, position.data(), table.cosine.data(),
                  table.sine.data()};
    Floats expected(x.size());
    rmsnorm_cpu({x.data(), heads, c.head_dim, norm.data(), 1e-5f, expected.data()}, cpu(1));
    args.x = expected.data();
    rope_cpu(args, cpu(1));

    args.norm = norm.data();
    args.eps = 1e-5f;
    for (const int threads : {1, 3}) {
      Floats on_cpu = x;
      args.x = on_cpu.data();
      rope_cpu(args, cpu(threads));
      CHECK(same_bits(on_cpu, expected));
    }
    args.cosine = cosine.data();
    args.sine = sine.data();
    args.norm = weight.data();
    const Floats out = same_bits_in_schedules([&] {
      const OnDevice<float> in_place(x);
      args.x = in_place.data();
      GPU_ROW(rope)(args, gpu_device());
      return in_place.values();
    });
    CHECK(same_bits(out, expected));
  }
}

TEST_CASE("gpu kv_scatter: each row's keys and values at their places, nothing else, on the CPU too") {
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
    const auto places_in = [&](float* cache) {
      std::vector<KvPlace> places;
      for (int64_t row = 0; row < c.rows; ++row)
        places.push_back({cache + place(row), cache + values_at + place(row)});
      return places;
    };
    const OnDevice<float> keys(k), values(v);
    const Floats out = same_bits_in_schedules([&] {
      const OnDevice<float> cache(before);
      const std::vector<KvPlace> places = places_in(cache.data());
      GPU_ROW(kv_scatter)({keys.data(), values.data(), places.data(), c.rows, c.width}, gpu_device());
      return cache.values();
    });
    CHECK(same_bits(out, expected));
    for (const int threads : {1, 3}) {
      Floats cache = before;
      const std::vector<KvPlace> places = places_in(cache.data());
      kv_scatter_cpu({k.data(), v.data(), places.data(), c.rows, c.width}, cpu(threads));
      CHECK(same_bits(cache, expected));
    }
  }
}

TEST_CASE("gpu combine: weighted slots, skipped slots, shared expert with and without gate, shared outputs") {
  for (const RowsCase& c : kRowsCases) {
    for (CombineProblem::Variant variant : CombineProblem::kVariants) {
      CAPTURE(c.seed);
      CAPTURE(static_cast<int>(variant));
      const CombineProblem problem(c, variant);
      std::map<const void*, OnDevice<float>> floats;
      std::map<const void*, OnDevice<int32_t>> integers;
      const auto on_device = [&](const auto& array) {
        if constexpr (std::is_same_v<std::decay_t<decltype(array)>, Floats>) {
          return floats.try_emplace(&array, array).first->second.data();
        } else {
          return integers.try_emplace(&array, array).first->second.data();
        }
      };
      const auto run = [&](int64_t first, int64_t rows) {
        const OnDevice<float> out(problem.residual_rows(first, rows));
        GPU_ROW(combine)(problem.args(first, rows, out.data(), on_device), gpu_device());
        return out.values();
      };
      const Floats out = same_bits_in_schedules([&] { return run(0, c.rows); });
      same_bits_in_batches(out, c.rows, c.width, run);
      CHECK(same_bits(out, problem.run_cpu(0, c.rows, cpu(1))));
      check_bounded(out, problem.expected());
      Floats behind = problem.residual;  // rows that do not start at 16 bytes
      behind.insert(behind.begin(), 7.0f);
      const OnDevice<float> shifted(behind);
      GPU_ROW(combine)(problem.args(0, c.rows, shifted.data() + 1, on_device), gpu_device());
      std::copy(out.begin(), out.end(), behind.begin() + 1);
      CHECK(same_bits(shifted.values(), behind));
    }
  }
}

TEST_CASE("gpu noise: the CPU's bits in every dtype, each element from its own word") {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (int64_t count : {1, 4, 31, 1030}) {
      const size_t bytes = static_cast<size_t>(count) * dtype_size(dtype);
      NoiseArgs args{nullptr, dtype, count, 0x123456789abcdefu, 7, 0.25f};
      const std::vector<char> out = same_bits_in_schedules([&] {
        const OnDevice<char> memory(static_cast<int64_t>(bytes));
        args.out = memory.data();
        GPU_ROW(noise)(args, gpu_device());
        return memory.values();
      });
      std::vector<char> on_cpu(bytes);
      args.out = on_cpu.data();
      noise_cpu(args, cpu(2));
      CHECK(same_bits(out, on_cpu));
      if (count > 12) {  // a window of the same array
        args.first = 12;
        args.count = count - 12;
        const OnDevice<char> window(static_cast<int64_t>(bytes));
        args.out = window.data();
        GPU_ROW(noise)(args, gpu_device());
        CHECK(same_bits(window.values().data(), out.data() + 12 * dtype_size(dtype),
                        static_cast<int64_t>(bytes - 12 * dtype_size(dtype))));
        noise_cpu({on_cpu.data(), dtype, args.count, args.seed, 7, 0.25f, 12}, cpu(1));
        CHECK(same_bits(on_cpu.data(), out.data() + 12 * dtype_size(dtype),
                        static_cast<int64_t>(bytes - 12 * dtype_size(dtype))));
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
