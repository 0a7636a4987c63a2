// Rows: a matrix [rows, width] that somebody else owns, in host or device memory, as pointers to its rows.
// The product of row and width is formed here, in 64 bits whatever type the index has.
#pragma once

#include <concepts>
#include <cstdint>
#include <vector>

namespace eep {

template <typename T>
class Rows {
 public:
  Rows(T* first, int64_t width) : first_(first), width_(width) {}

  // Row `row` [width].
  T* operator[](std::integral auto row) const { return first_ + static_cast<int64_t>(row) * width_; }
  int64_t width() const { return width_; }

 private:
  T* first_;
  int64_t width_;
};

// A view of a vector's values; the vector outlives it.
template <typename T>
Rows<T> rows_of(std::vector<T>& values, std::integral auto width) {
  return {values.data(), static_cast<int64_t>(width)};
}
template <typename T>
Rows<const T> rows_of(const std::vector<T>& values, std::integral auto width) {
  return {values.data(), static_cast<int64_t>(width)};
}
template <typename T>
Rows<const T> rows_of(const std::vector<T>&& values, std::integral auto width) = delete;

}  // namespace eep
