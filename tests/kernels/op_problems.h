// Inputs and expected outputs of ops that the tests of both backends send through them: embed, combine,
// score.
#pragma once

#include <vector>

#include "kernels/combine.h"
#include "tests/kernels/cases.h"
#include "tests/kernels/reference.h"
#include "tests/kernels/support.h"

namespace eep::test {

// Rows of a table of 19 tokens.
struct EmbedProblem {
  static constexpr int64_t kVocabulary = 19;
  Typed table;
  std::vector<int32_t> token;
  Floats expected;

  EmbedProblem(const RowsCase& c, DType dtype, Data& data)
      : table(data.floats(kVocabulary * c.width), dtype) {
    for (int64_t row = 0; row < c.rows; ++row) {
      token.push_back(static_cast<int32_t>(data.below(kVocabulary)));
      const auto begin = table.values.begin() + token.back() * c.width;
      expected.insert(expected.end(), begin, begin + c.width);
    }
  }
};

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

  Floats residual_rows(int64_t first, int64_t rows) const {
    return Floats(residual.begin() + first * c.width, residual.begin() + (first + rows) * c.width);
  }
  // Arguments for rows [first, first + rows) of arrays that lie where `at(array)` says.
  template <class At>
  CombineArgs args(int64_t first, int64_t rows, float* out, const At& at) const {
    CombineArgs args;
    args.slot_out = at(slot_out) + (variant == kSlotRow ? 0 : first * slots * c.width);
    args.weight = at(weight) + first * slots;
    args.expert = at(expert) + first * slots;
    args.rows = rows;
    args.slots = slots;
    args.hidden = c.width;
    if (variant == kShared || variant == kGated) args.shared_out = at(shared) + first * c.width;
    if (variant == kGated) args.shared_gate = at(gate) + first;
    if (variant == kSlotRow) args.slot_row = at(slot_row) + first * slots;
    args.residual = out;
    return args;
  }
  Floats run_cpu(int64_t first, int64_t rows, const Device& device) const {
    Floats out = residual_rows(first, rows);
    combine_cpu(args(first, rows, out.data(), [](const auto& array) { return array.data(); }), device);
    return out;
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

// Scored positions: some rows are wanted several times in a row, some positions have no target.
struct ScorePositions {
  std::vector<int32_t> index, target;

  ScorePositions(const ScoreCase& c, int64_t x_rows, Data& data) {
    for (int64_t p = 0; p < c.count; ++p) {
      const bool again = p > 0 && data.uniform() < 0.4;
      index.push_back(again ? index.back() : static_cast<int32_t>(data.below(x_rows)));
      target.push_back(data.uniform() < 0.2 ? -1 : static_cast<int32_t>(data.below(c.vocabulary)));
    }
  }

  // out: [count, 2] log-probabilities and arg-maxima of x, against the definition. The chain of a logit may
  // be off by `chains` times the reference's bound, the sums of the log-probability by `sums` more.
  void check(const ScoreCase& c, const Floats& x, const Floats& weights, const Floats& out, double chains,
             double sums) const {
    Floats log_probability;
    std::vector<Bounded> expected;
    for (size_t p = 0; p < index.size(); ++p) {
      const ScoreReference reference =
          score(x.data() + index[p] * c.hidden, weights, c.vocabulary, c.hidden, target[p]);
      log_probability.push_back(out[2 * p]);
      expected.push_back(reference.log_probability);
      expected.back().bound = chains * expected.back().bound + sums;
      const Bounded& chosen = reference.logits[static_cast<size_t>(out[2 * p + 1])];
      CHECK(chosen.expected >= reference.highest - 2 * chains * chosen.bound);
      if (target[p] < 0) CHECK(out[2 * p] == 0.0f);
    }
    check_bounded(log_probability, expected);
  }
};

// Weights [40000, 4] of tokens whose logits are equal and above all others: `first` is the lowest.
constexpr int64_t kTiedVocabulary = 40000, kTiedHidden = 4;
inline Floats tied_weights(int64_t first) {
  Floats values(static_cast<size_t>(kTiedVocabulary * kTiedHidden));
  for (int64_t token : {first, first + 1, first + 700, kTiedVocabulary - 1}) {
    values[static_cast<size_t>(token * kTiedHidden)] = 1;
  }
  return values;
}

}  // namespace eep::test
