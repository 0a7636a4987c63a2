// LineReader: a text file line by line through one buffer, however large the file is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace eep {

inline constexpr size_t kMaxLine = size_t{64} << 20;

class LineReader {
 public:
  // Throws kNoInput if the file is missing, kIo if it cannot be read.
  explicit LineReader(const std::string& path);
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader();

  // The next line without its line feed and the carriage return before that; false at the end. A byte order
  // mark at the beginning of the file is left out. Throws kIo, and kData for a line longer than kMaxLine.
  bool next(std::string& line);
  int64_t number() const { return number_; }  // of the line that next() gave last, from 1
  // The file's first bytes, at least `bytes` of them if it has so many. Before the first next().
  std::string_view begin(size_t bytes);

 private:
  bool fill();  // reads on; false at the end

  std::string path_;
  int descriptor_ = -1;
  std::string buffer_;
  size_t at_ = 0;
  int64_t number_ = 0;
  bool ended_ = false;
};

}  // namespace eep
