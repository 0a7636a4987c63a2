// Rows of raw downloads, one at a time: a file of any size passes through a bounded buffer.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "loaders/formats/json.h"

namespace eep {

enum class RawLayout : uint8_t {
  kJsonLines,  // one object a line
  kSquad,      // {"data": [row, ...]}
  kDrop,       // {"name": row, ...}
  kCsv,        // RFC 4180, no header: the task says what the columns are
  kTsv         // tabs, a header line
};

// A row of the table of layouts.
struct RawLayoutRow {
  std::string_view name;       // of the enum, for people
  std::string_view extension;  // a file of this name is in this layout, where a task knows several; or ""
  char begin = 0;              // the first character that is no white space, or 0: any
};
const RawLayoutRow& raw_layout(RawLayout layout);

// What was read: for provenance.
struct RawFile {
  std::string path;
  std::string hash;  // xxh3:... (128 bits) of the bytes
  int64_t bytes = 0;
  int64_t rows = 0;
};

// where: file:line.
using TakeRow = std::function<void(const Json& row, const std::string& where)>;

// Calls `take` for every row, in order. columns: of a file without a header. Throws Error(kData) for another
// layout, a broken row, a row of more than 64 MiB; kNoInput for a missing file; kIo.
RawFile read_raw(const std::string& path, RawLayout layout, std::span<const std::string_view> columns,
                 const TakeRow& take);

}  // namespace eep
