#include "engine/subset_errors.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/common/rows.h"
#include "kernels/common/scalar_math.h"

namespace eep {
namespace {

struct Choice {
  int32_t expert;
  double weight;
};

// The router of the model restricted to `experts` (ascending): softmax over them, top-k, renormalised as the
// family does.
void route(const float* logits, const std::vector<int32_t>& experts, int32_t top_k, bool renormalise,
           std::vector<Choice>* chosen) {
  double largest = -INFINITY;
  for (int32_t expert : experts) largest = std::max(largest, static_cast<double>(logits[expert]));
  double sum = 0;
  chosen->clear();
  for (int32_t expert : experts) {
    const double below = static_cast<double>(logits[expert]) - largest;
    const double value = below > -700 ? exponential_double(below) : 0.0;
    sum += value;
    chosen->push_back({expert, value});
  }
  const size_t keep = std::min(chosen->size(), static_cast<size_t>(top_k));
  std::stable_sort(chosen->begin(), chosen->end(),
                   [&](const Choice& a, const Choice& b) { return logits[a.expert] > logits[b.expert]; });
  chosen->resize(keep);
  if (renormalise) {
    sum = 0;
    for (const Choice& choice : *chosen) sum += choice.weight;
  }
  for (Choice& choice : *chosen) choice.weight /= sum;
}

// The same with sigmoid scores, which know no other expert; groups play no part among a few of them.
void route_sigmoid(const float* logits, const std::vector<float>& bias, const std::vector<int32_t>& experts,
                   const ModelConfig& config, std::vector<Choice>* chosen) {
  chosen->clear();
  for (int32_t expert : experts)
    chosen->push_back({expert, sigmoid_double(static_cast<double>(logits[expert]))});
  const auto rank = [&](const Choice& choice) {
    return choice.weight + static_cast<double>(bias[static_cast<size_t>(choice.expert)]);
  };
  std::stable_sort(chosen->begin(), chosen->end(),
                   [&](const Choice& a, const Choice& b) { return rank(a) > rank(b); });
  chosen->resize(std::min(chosen->size(), static_cast<size_t>(config.top_k)));
  double sum = 0;
  for (const Choice& choice : *chosen) sum += choice.weight;
  for (Choice& choice : *chosen) {
    if (config.norm_topk_prob) choice.weight /= sum;
    choice.weight *= static_cast<double>(config.router_scale);
  }
}

double quadratic(const double* gram, const std::vector<double>& difference) {
  const size_t experts = difference.size();
  double sum = 0;
  for (size_t a = 0; a < experts; ++a) {
    if (difference[a] == 0) continue;
    for (size_t b = 0; b < experts; ++b) {
      if (difference[b] != 0) sum += difference[a] * difference[b] * gram[a * experts + b];
    }
  }
  return sum;
}

}  // namespace

void add_subset_errors(const SubsetBatch& batch, const ModelConfig& config, [[maybe_unused]] int threads,
                       LayerStatistics& layer) {
  const int64_t rows = batch.rows, hidden = config.hidden_size;
  const auto experts = static_cast<int32_t>(config.num_experts);
  const Rows<const float> outputs = rows_of(batch.outputs, hidden), logits = rows_of(batch.logits, experts);
  // Z - Z_S is a combination of at most 2k expert outputs, so its norm follows from their inner products.
  const size_t gram_size = static_cast<size_t>(experts) * static_cast<size_t>(experts);
  std::vector<double> gram(static_cast<size_t>(rows) * gram_size);
  const Rows<double> grams = rows_of(gram, gram_size);
  for (int64_t row = 0; row < rows; ++row) {
    for (int32_t a = 0; a < experts; ++a) {
      for (int32_t b = a; b < experts; ++b) {
        const float *fa = outputs[row * experts + a], *fb = outputs[row * experts + b];
        double sum = 0;
        for (int64_t i = 0; i < hidden; ++i) sum += static_cast<double>(fa[i]) * static_cast<double>(fb[i]);
        double* matrix = grams[row];
        matrix[a * experts + b] = matrix[b * experts + a] = sum;
      }
    }
  }
  std::vector<int32_t> all(static_cast<size_t>(experts));
  std::iota(all.begin(), all.end(), 0);
  const auto route_among = [&](const float* of_row, const std::vector<int32_t>& some,
                               std::vector<Choice>* to) {
    if (config.router_score == RouterScore::kSigmoid)
      return route_sigmoid(of_row, batch.router_bias, some, config, to);
    route(of_row, some, static_cast<int32_t>(config.top_k), config.norm_topk_prob, to);
  };
  std::vector<std::vector<Choice>> full(static_cast<size_t>(rows));
  for (int64_t row = 0; row < rows; ++row) route_among(logits[row], all, &full[static_cast<size_t>(row)]);
  double all_squares = 0;
  std::vector<double> whole(static_cast<size_t>(experts));
  for (int64_t row = 0; row < rows; ++row) {
    std::fill(whole.begin(), whole.end(), 0.0);
    for (const Choice& choice : full[static_cast<size_t>(row)])
      whole[static_cast<size_t>(choice.expert)] = choice.weight;
    all_squares += quadratic(grams[row], whole);
  }
  for (SubsetErrors& errors : layer.subset_errors) {
    errors.norm += std::sqrt(std::max(all_squares, 0.0));
    const int64_t subsets = static_cast<int64_t>(errors.subsets.size());
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t subset = 0; subset < subsets; ++subset) {
      std::vector<Choice> chosen;
      std::vector<double> difference(static_cast<size_t>(experts));
      double squares = 0;
      for (int64_t row = 0; row < rows; ++row) {
        route_among(logits[row], errors.subsets[static_cast<size_t>(subset)], &chosen);
        std::fill(difference.begin(), difference.end(), 0.0);
        for (const Choice& choice : full[static_cast<size_t>(row)])
          difference[static_cast<size_t>(choice.expert)] += choice.weight;
        for (const Choice& choice : chosen) difference[static_cast<size_t>(choice.expert)] -= choice.weight;
        squares += quadratic(grams[row], difference);
      }
      errors.error[static_cast<size_t>(subset)] += std::sqrt(std::max(squares, 0.0));
    }
  }
}

}  // namespace eep
