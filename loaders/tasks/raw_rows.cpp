#include "loaders/tasks/raw_rows.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <array>
#include <fstream>
#include <memory>
#include <vector>

#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/formats/unicode.h"

namespace eep {
namespace {

constexpr size_t kBuffer = size_t{1} << 18;
constexpr size_t kMaxRow = size_t{64} << 20;

// In the order of the enum.
constexpr std::array kLayouts{
    RawLayoutRow{"JSON Lines", ".jsonl", '{'},
    RawLayoutRow{"JSON {\"data\": [...]}", ".json", '{'},
    RawLayoutRow{"JSON {\"name\": {...}}", ".json", '{'},
    RawLayoutRow{"CSV without a header", ".csv", 0},
    RawLayoutRow{"TSV with a header", ".tsv", 0},
};

bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Turns characters into rows. `line` is that of the row's first character.
class Splitter {
 public:
  Splitter(const std::string& path, const TakeRow& take) : path_(path), take_(take) {}
  virtual ~Splitter() = default;

  void feed(std::string_view bytes) {
    for (const char c : bytes) {
      put(c);
      if (c == '\n') ++line_;
    }
  }
  virtual void end() = 0;
  int64_t rows() const { return rows_; }

 protected:
  virtual void put(char c) = 0;

  void append(char c) {
    if (row_.empty()) row_line_ = line_;
    if (row_.size() >= kMaxRow) fail(fmt::format("a row of more than {} bytes", kMaxRow));
    row_ += c;
  }
  std::string where() const { return fmt::format("{}:{}", path_, row_line_); }
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ExitCode::kData, fmt::format("{}:{}", path_, line_), what);
  }
  void give(const Json& row) {
    ++rows_;
    take_(row, where());
    row_.clear();
  }
  void give_json() {
    const Json row = parse_json(row_, path_, row_line_, Numbers::kAsWritten);
    if (!row.is_object()) {
      throw Error(ExitCode::kData, where(), "not an object" + expected_got("one", row.type_name()));
    }
    give(row);
  }

  std::string row_;
  int64_t line_ = 1, row_line_ = 1;

 private:
  const std::string& path_;
  const TakeRow& take_;
  int64_t rows_ = 0;
};

class JsonLines final : public Splitter {
 public:
  using Splitter::Splitter;
  void put(char c) override {
    if (c == '\n') {
      end();
    } else if (!row_.empty() || !is_blank(c)) {
      append(c);
    }
  }
  void end() override {
    if (!row_.empty()) give_json();
  }
};

// The members of a document's root, or the elements of its list `data`: cut out by their brackets, parsed one
// by one.
class Document final : public Splitter {
 public:
  Document(const std::string& path, const TakeRow& take, bool in_data)
      : Splitter(path, take), in_data_(in_data) {}

  void put(char c) override {
    if (in_row_) append(c);
    if (in_string_) {
      if (!escaped_ && c == '"') {
        in_string_ = false;
      } else if (!in_row_ && depth_ == 1 && key_.size() < 100) {
        key_ += c;
      }
      escaped_ = !escaped_ && c == '\\';
    } else if (c == '"') {
      in_string_ = true;
      if (!in_row_) key_.clear();
    } else if (c == '{' || c == '[') {
      open(c);
    } else if (c == '}' || c == ']') {
      close();
    } else if (depth_ == 0 && !is_blank(c)) {
      fail("text after the document, or before it");
    }
  }
  void end() override {
    if (depth_ != 0 || !seen_) fail("the document ends too early (a download that was cut?)");
  }

 private:
  void open(char c) {
    if (depth_ == 0 && seen_) fail("a second document");
    seen_ = true;
    if (!in_row_) {
      if (in_data_ && depth_ == 1) list_ = c == '[' && key_ == "data";
      if (c == '{' && (in_data_ ? depth_ == 2 && list_ : depth_ == 1)) {
        in_row_ = true;
        row_depth_ = depth_;
        append(c);
      }
    }
    ++depth_;
  }
  void close() {
    if (depth_ == 0) fail("a bracket that nothing opened");
    if (--depth_ == row_depth_ && in_row_) {
      in_row_ = false;
      give_json();
    }
  }

  bool in_data_, seen_ = false, in_string_ = false, escaped_ = false, in_row_ = false, list_ = false;
  int depth_ = 0, row_depth_ = -1;
  std::string key_;  // the last text at the root's level
};

// Cells of CSV or TSV.
class Cells final : public Splitter {
 public:
  Cells(const std::string& path, const TakeRow& take, bool csv, std::span<const std::string_view> columns)
      : Splitter(path, take), csv_(csv), columns_(columns.begin(), columns.end()), header_(columns.empty()) {}

  void put(char c) override {
    if (quoted_) {
      append(c);
      if (c == '"') {
        quoted_ = false;
        after_quote_ = true;
      } else {
        cell_ += c;
      }
      return;
    }
    if (csv_ && c == '"' && (cell_.empty() || after_quote_)) {
      if (after_quote_) cell_ += c;  // "" inside quotes is one
      quoted_ = true;
      after_quote_ = false;
      append(c);
    } else if (c == '\n') {
      finish_row();
    } else if (c == (csv_ ? ',' : '\t')) {
      append(c);
      cells_.push_back(std::move(cell_));
      cell_.clear();
      after_quote_ = false;
    } else {
      append(c);
      if (c != '\r') cell_ += c;
    }
  }
  void end() override {
    if (quoted_) fail("a quotation that does not end");
    finish_row();
  }

 private:
  void finish_row() {
    after_quote_ = false;
    if (row_.empty() || (cells_.empty() && cell_.empty())) {
      row_.clear();
      return;
    }
    cells_.push_back(std::move(cell_));
    cell_.clear();
    std::vector<std::string> cells = std::move(cells_);
    cells_.clear();
    if (header_) {
      header_ = false;
      names_ = std::move(cells);
      columns_.assign(names_.begin(), names_.end());
      row_.clear();
      return;
    }
    if (cells.size() != columns_.size()) {
      throw Error(ExitCode::kData, where(),
                  "another number of columns" + expected_got(columns_.size(), cells.size()));
    }
    Json row = Json::object();
    for (size_t i = 0; i < cells.size(); ++i) {
      if (!is_valid_utf8(cells[i])) throw Error(ExitCode::kData, where(), "invalid UTF-8");
      row[std::string(columns_[i])] = std::move(cells[i]);
    }
    give(row);
  }

  bool csv_, quoted_ = false, after_quote_ = false;
  std::string cell_;
  std::vector<std::string> cells_, names_;
  std::vector<std::string_view> columns_;
  bool header_;
};

std::unique_ptr<Splitter> make_splitter(const std::string& path, RawLayout layout,
                                        std::span<const std::string_view> columns, const TakeRow& take) {
  switch (layout) {
    case RawLayout::kJsonLines:
      return std::make_unique<JsonLines>(path, take);
    case RawLayout::kSquad:
    case RawLayout::kDrop:
      return std::make_unique<Document>(path, take, layout == RawLayout::kSquad);
    case RawLayout::kCsv:
      return std::make_unique<Cells>(path, take, true, columns);
    case RawLayout::kTsv:
      return std::make_unique<Cells>(path, take, false, std::span<const std::string_view>{});
  }
  return nullptr;
}

// Throws if the file's first character belongs to another layout.
void check_begin(const std::string& path, RawLayout layout, std::string_view bytes) {
  const RawLayoutRow& row = raw_layout(layout);
  size_t at = 0;
  while (at < bytes.size() && is_blank(bytes[at])) ++at;
  if (at == bytes.size()) throw Error(ExitCode::kData, path, "an empty file");
  const bool other = row.begin != 0 ? bytes[at] != row.begin : bytes[at] == '{' || bytes[at] == '[';
  if (!other && bytes.find('\0') == std::string_view::npos) return;
  const ForeignFile foreign = foreign_file(bytes.substr(at));
  if (!foreign.what.empty())
    throw Error(ExitCode::kData, path, fmt::format("{} (expected {})", foreign.what, row.name), foreign.hint);
  throw Error(
      ExitCode::kData, path,
      "unknown layout" + expected_got(row.name, fmt::format("\"{}\"", printable(bytes.substr(at, 24)))));
}

struct HashState {
  XXH3_state_t* state = XXH3_createState();
  HashState() { XXH3_128bits_reset(state); }
  HashState(const HashState&) = delete;
  HashState& operator=(const HashState&) = delete;
  ~HashState() { XXH3_freeState(state); }
};

}  // namespace

const RawLayoutRow& raw_layout(RawLayout layout) { return kLayouts.at(static_cast<size_t>(layout)); }

RawFile read_raw(const std::string& path, RawLayout layout, std::span<const std::string_view> columns,
                 const TakeRow& take) {
  if (!file_exists(path)) fail_missing(path, "no such file");
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw Error(ExitCode::kIo, path, "cannot open");
  const std::unique_ptr<Splitter> splitter = make_splitter(path, layout, columns, take);
  HashState hash;
  RawFile file;
  file.path = path;
  std::vector<char> buffer(kBuffer);
  while (stream) {
    stream.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    std::string_view bytes(buffer.data(), static_cast<size_t>(stream.gcount()));
    if (bytes.empty()) break;
    XXH3_128bits_update(hash.state, bytes.data(), bytes.size());
    if (file.bytes == 0) {
      file.bytes += static_cast<int64_t>(bytes.size());
      if (bytes.starts_with("\xef\xbb\xbf")) bytes.remove_prefix(3);
      check_begin(path, layout, bytes);
    } else {
      file.bytes += static_cast<int64_t>(bytes.size());
    }
    splitter->feed(bytes);
  }
  if (stream.bad()) throw Error(ExitCode::kIo, path, "cannot read");
  if (file.bytes == 0) throw Error(ExitCode::kData, path, "an empty file");
  splitter->end();
  file.rows = splitter->rows();
  if (file.rows == 0)
    throw Error(ExitCode::kData, path, fmt::format("no rows (expected {})", raw_layout(layout).name));
  const XXH128_hash_t value = XXH3_128bits_digest(hash.state);
  file.hash = fmt::format("xxh3:{:016x}{:016x}", value.high64, value.low64);
  return file;
}

}  // namespace eep
