// The two pieces of numerics behind a split: clustering of neurons and the fit of a router.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "loaders/models/moefy.h"

namespace eep {

namespace {

constexpr int kRounds = 12;

// similarity[column, expert] = activity[:, column] . centre[expert, :]
void similarities(const std::vector<float>& activity, const std::vector<float>& centres, int64_t rows,
                  int64_t columns, int32_t experts, std::vector<float>& similarity) {
  std::vector<float> by_expert(static_cast<size_t>(experts * columns), 0.0f);
  for (int32_t expert = 0; expert < experts; ++expert) {
    float* sums = by_expert.data() + expert * columns;
    for (int64_t row = 0; row < rows; ++row) {
      const float centre = centres[static_cast<size_t>(expert * rows + row)];
      const float* values = activity.data() + row * columns;
      for (int64_t column = 0; column < columns; ++column) sums[column] += centre * values[column];
    }
  }
  similarity.resize(static_cast<size_t>(columns * experts));
  for (int64_t column = 0; column < columns; ++column) {
    for (int32_t expert = 0; expert < experts; ++expert) {
      similarity[static_cast<size_t>(column * experts + expert)] =
          by_expert[static_cast<size_t>(expert * columns + column)];
    }
  }
}

// The best pairs first, as long as the expert has room.
std::vector<int32_t> assign(const std::vector<float>& similarity, int64_t columns, int32_t experts) {
  std::vector<int64_t> pairs(static_cast<size_t>(columns * experts));
  std::iota(pairs.begin(), pairs.end(), 0);
  std::sort(pairs.begin(), pairs.end(), [&](int64_t a, int64_t b) {
    const float x = similarity[static_cast<size_t>(a)], y = similarity[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  std::vector<int32_t> owner(static_cast<size_t>(columns), -1);
  std::vector<int64_t> room(static_cast<size_t>(experts), columns / experts);
  for (int64_t pair : pairs) {
    const size_t column = static_cast<size_t>(pair / experts), expert = static_cast<size_t>(pair % experts);
    if (owner[column] >= 0 || room[expert] == 0) continue;
    owner[column] = static_cast<int32_t>(expert);
    --room[expert];
  }
  return owner;
}

void normalise(float* values, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += double{values[i]} * double{values[i]};
  const float scale = sum > 0 ? static_cast<float>(1 / std::sqrt(sum)) : 0.0f;
  for (int64_t i = 0; i < count; ++i) values[i] *= scale;
}

// The first centre is the most active column, each further one the column least like the centres so far.
std::vector<float> first_centres(const std::vector<float>& activity, const std::vector<double>& size,
                                 int64_t rows, int64_t columns, int32_t experts) {
  std::vector<float> centres(static_cast<size_t>(experts * rows));
  std::vector<float> nearest(static_cast<size_t>(columns), 0.0f), similarity;
  size_t chosen = static_cast<size_t>(std::max_element(size.begin(), size.end()) - size.begin());
  for (int32_t expert = 0; expert < experts; ++expert) {
    float* centre = centres.data() + expert * rows;
    for (int64_t row = 0; row < rows; ++row) {
      centre[row] = activity[static_cast<size_t>(row * columns) + chosen];
    }
    similarities(activity, {centre, centre + rows}, rows, columns, 1, similarity);
    for (size_t column = 0; column < nearest.size(); ++column) {
      nearest[column] = std::max(nearest[column], similarity[column]);
    }
    chosen = static_cast<size_t>(std::min_element(nearest.begin(), nearest.end()) - nearest.begin());
  }
  return centres;
}

}  // namespace

std::vector<int32_t> balanced_clusters(const std::vector<float>& activity, int64_t rows, int64_t columns,
                                       int32_t experts) {
  // Columns of unit length: how often neurons fire together counts, not how strongly.
  std::vector<double> size(static_cast<size_t>(columns), 0.0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const double value = activity[static_cast<size_t>(row * columns + column)];
      size[static_cast<size_t>(column)] += value * value;
    }
  }
  std::vector<float> unit = activity;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const double length = std::sqrt(size[static_cast<size_t>(column)]);
      unit[static_cast<size_t>(row * columns + column)] *= length > 0 ? static_cast<float>(1 / length) : 0.0f;
    }
  }
  std::vector<float> centres = first_centres(unit, size, rows, columns, experts), similarity;
  std::vector<int32_t> owner;
  for (int round = 0; round < kRounds; ++round) {
    similarities(unit, centres, rows, columns, experts, similarity);
    std::vector<int32_t> next = assign(similarity, columns, experts);
    if (next == owner) break;
    owner = std::move(next);
    std::fill(centres.begin(), centres.end(), 0.0f);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t column = 0; column < columns; ++column) {
        centres[static_cast<size_t>(owner[static_cast<size_t>(column)] * rows + row)] +=
            unit[static_cast<size_t>(row * columns + column)];
      }
    }
    for (int32_t expert = 0; expert < experts; ++expert) normalise(centres.data() + expert * rows, rows);
  }
  return owner;
}

std::vector<float> ridge_regression(const std::vector<float>& x, const std::vector<float>& y, int64_t rows,
                                    int64_t inputs, int64_t outputs, double ridge) {
  const size_t n = static_cast<size_t>(inputs), m = static_cast<size_t>(outputs);
  std::vector<double> gram(n * n, 0.0), right(n * m, 0.0);
  for (int64_t row = 0; row < rows; ++row) {
    const float* features = x.data() + row * inputs;
    const float* targets = y.data() + row * outputs;
    for (size_t i = 0; i < n; ++i) {
      const double value = features[i];
      double* line = gram.data() + i * n;
      for (size_t j = 0; j <= i; ++j) line[j] += value * double{features[j]};
      for (size_t j = 0; j < m; ++j) right[i * m + j] += value * double{targets[j]};
    }
  }
  double trace = 0;
  for (size_t i = 0; i < n; ++i) trace += gram[i * n + i];
  const double added = ridge * trace / static_cast<double>(n) + 1e-30;
  for (size_t i = 0; i < n; ++i) gram[i * n + i] += added;
  // Cholesky: gram = l l^T, in place.
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j <= i; ++j) {
      double sum = gram[i * n + j];
      for (size_t k = 0; k < j; ++k) sum -= gram[i * n + k] * gram[j * n + k];
      gram[i * n + j] = i == j ? std::sqrt(std::max(sum, added)) : sum / gram[j * n + j];
    }
  }
  for (size_t column = 0; column < m; ++column) {
    for (size_t i = 0; i < n; ++i) {
      double sum = right[i * m + column];
      for (size_t k = 0; k < i; ++k) sum -= gram[i * n + k] * right[k * m + column];
      right[i * m + column] = sum / gram[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
      double sum = right[i * m + column];
      for (size_t k = i + 1; k < n; ++k) sum -= gram[k * n + i] * right[k * m + column];
      right[i * m + column] = sum / gram[i * n + i];
    }
  }
  std::vector<float> weights(m * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = 0; j < m; ++j) weights[j * n + i] = static_cast<float>(right[i * m + j]);
  }
  return weights;
}

}  // namespace eep
