// All sums in one fixed order: the same bits everywhere.
#include "es/curvature_memory.h"

#include <algorithm>
#include <cmath>

namespace eep {
namespace {

constexpr double kRate = 0.8;
constexpr int kDoublings = 60;

double dot(const double* a, const double* b, size_t n) {
  double sum = 0.0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

void add_scaled(double factor, const double* from, double* to, size_t n) {
  for (size_t i = 0; i < n; ++i) to[i] += factor * from[i];
}

}  // namespace

void CurvatureMemory::learn(std::span<const double> rows, const Quadratic& measured) {
  const size_t count = measured.gradient.size();
  if (empty()) {
    double trace = 0.0;
    for (size_t i = 0; i < count; ++i) trace += measured.curvature[i * count + i];
    gradient_.assign(d_, 0.0);
    curvature_.assign(d_ * d_, 0.0);
    for (size_t i = 0; i < d_; ++i) curvature_[i * d_ + i] = trace / static_cast<double>(count);
  }
  const auto row = [&](size_t i) { return rows.data() + i * d_; };
  std::vector<double> along(count);
  for (size_t i = 0; i < count; ++i) along[i] = measured.gradient[i] - dot(row(i), gradient_.data(), d_);
  for (size_t i = 0; i < count; ++i) add_scaled(kRate * along[i], row(i), gradient_.data(), d_);
  // F D^T, then S - D F D^T, then F += r D^T (S - D F D^T) D as the product of D^T and the rest.
  std::vector<double> product(count * d_);
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < d_; ++j) product[i * d_ + j] = dot(curvature_.data() + j * d_, row(i), d_);
  }
  std::vector<double> rest(count * d_, 0.0);
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < count; ++j) {
      // Symmetric to the bit: of the two equal sums the one below the diagonal.
      const size_t low = std::max(i, j), high = std::min(i, j);
      const double known = dot(row(low), product.data() + high * d_, d_);
      const double missing = measured.curvature[low * count + high] - known;
      add_scaled(kRate * missing, row(j), rest.data() + i * d_, d_);
    }
  }
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < d_; ++j)
      add_scaled(row(i)[j], rest.data() + i * d_, curvature_.data() + j * d_, d_);
  }
  for (size_t i = 0; i < d_; ++i) {
    for (size_t j = 0; j < i; ++j) {
      const double mean = 0.5 * (curvature_[i * d_ + j] + curvature_[j * d_ + i]);
      curvature_[i * d_ + j] = curvature_[j * d_ + i] = mean;
    }
  }
}

void CurvatureMemory::move(std::span<const double> step) {
  if (empty()) return;
  for (size_t i = 0; i < d_; ++i) gradient_[i] -= dot(curvature_.data() + i * d_, step.data(), d_);
}

std::vector<double> CurvatureMemory::step(double ridge) const {
  std::vector<double> solution(d_, 0.0);
  if (empty()) return solution;
  for (int doubling = 0; doubling < kDoublings; ++doubling, ridge *= 2.0) {
    std::vector<double> matrix = curvature_;
    for (size_t i = 0; i < d_; ++i) matrix[i * d_ + i] += ridge;
    solution = gradient_;
    if (solve_positive(&matrix, &solution)) return solution;
  }
  std::fill(solution.begin(), solution.end(), 0.0);
  return solution;
}

}  // namespace eep
