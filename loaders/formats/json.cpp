// Strict JSON over nlohmann's event parser. Objects are built in a frame of their own and moved into place
// once, because ordered_json searches and copies its members on every insertion.
#include "loaders/formats/json.h"

#include <utf8proc.h>
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <unordered_set>
#include <utility>

#include "kernels/common/expected.h"
#include "loaders/formats/unicode.h"

namespace eep {

namespace {

// Neither a control sign nor a separator of lines, and assigned.
bool is_printable(uint32_t c) {
  if (c == kInvalidCodePoint) return false;
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return category != UTF8PROC_CATEGORY_CN && category < UTF8PROC_CATEGORY_ZL;
}

std::string position_of(std::string_view text, size_t offset, const std::string& where, int64_t first_line) {
  offset = std::min(offset, text.size());
  const std::string_view before = text.substr(0, offset);
  const int64_t line = first_line + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column = newline == std::string_view::npos ? offset + 1 : offset - newline;
  return where + ":" + std::to_string(line) + ":" + std::to_string(column);
}

// Tells the parser's events how far the text has been read.
struct Cursor {
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  const char* at;
  const char** reached;

  reference operator*() const { return *at; }
  Cursor& operator++() {
    *reached = ++at;
    return *this;
  }
  Cursor operator++(int) {
    Cursor before = *this;
    ++*this;
    return before;
  }
  bool operator==(const Cursor& other) const { return at == other.at; }
};

class Builder {
 public:
  Builder(std::string_view text, const std::string& where, int64_t first_line, Numbers numbers)
      : text_(text), where_(where), first_line_(first_line), numbers_(numbers), reached_(text.data()) {}

  Json build() {
    // The lexer takes NUL for the end of the text.
    if (const size_t nul = text_.find('\0'); nul != std::string_view::npos) fail(nul, "NUL byte in JSON");
    Json::sax_parse(Cursor{text_.data(), &reached_}, Cursor{text_.data() + text_.size(), &reached_}, this);
    return std::move(result_);
  }

  bool null() { return add(Json(nullptr)); }
  bool boolean(bool value) { return add(Json(value)); }
  bool number_integer(int64_t value) { return add(Json(value)); }
  bool number_unsigned(uint64_t value) { return add(Json(value)); }
  bool number_float(double value, const std::string& written) {
    Json number(value);
    if (numbers_ == Numbers::kAsWritten && number.dump() != written) return add(Json(written));
    return add(std::move(number));
  }
  bool string(std::string& value) { return add(Json(std::move(value))); }
  bool binary(Json::binary_t&) { return false; }
  bool start_object(size_t) { return open(true); }
  bool start_array(size_t) { return open(false); }
  bool key(std::string& name) {
    Frame& frame = frames_.back();
    const auto same = [&](const auto& member) { return member.first == name; };
    if (!frame.hashes.insert(XXH3_64bits(name.data(), name.size())).second &&
        std::any_of(frame.members.begin(), frame.members.end(), same)) {
      fail(offset() - 1, "duplicate key \"" + printable(name) + "\"");
    }
    frame.members.emplace_back(std::move(name), Json());
    return true;
  }
  bool end_object() {
    Json object = Json::object();
    auto& map = object.get_ref<Json::object_t&>();
    std::vector<std::pair<std::string, Json>>& members = frames_.back().members;
    map.reserve(members.size());
    for (auto& [name, value] : members) map.emplace_back(std::move(name), std::move(value));
    frames_.pop_back();
    return add(std::move(object));
  }
  bool end_array() {
    Json::array_t elements = std::move(frames_.back().elements);
    frames_.pop_back();
    return add(Json(std::move(elements)));
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    const std::string_view message = error.what();  // "[json...] parse error at line 1, column 2: REASON"
    size_t reason = message.find("column ");
    reason = reason == std::string_view::npos ? message.find("] ") : message.find(": ", reason);
    fail(position == 0 ? 0 : position - 1,
         "malformed JSON: " +
             printable(reason == std::string_view::npos ? message : message.substr(reason + 2)));
  }

 private:
  struct Frame {
    bool object;
    std::vector<std::pair<std::string, Json>> members;
    std::unordered_set<uint64_t> hashes;
    std::vector<Json> elements;
  };

  size_t offset() const { return static_cast<size_t>(reached_ - text_.data()); }

  bool open(bool object) {
    if (frames_.size() == kMaxJsonDepth) {
      fail(offset() - 1, "nested too deeply (expected at most " + std::to_string(kMaxJsonDepth) + " levels)");
    }
    frames_.push_back({object, {}, {}, {}});
    return true;
  }
  bool add(Json value) {
    if (frames_.empty()) {
      result_ = std::move(value);
    } else if (frames_.back().object) {
      frames_.back().members.back().second = std::move(value);
    } else {
      frames_.back().elements.push_back(std::move(value));
    }
    return true;
  }
  [[noreturn]] void fail(size_t at, const std::string& what) const {
    throw Error(ExitCode::kData, position_of(text_, at, where_, first_line_), what);
  }

  std::string_view text_;
  const std::string& where_;
  int64_t first_line_;
  Numbers numbers_;
  const char* reached_;
  std::vector<Frame> frames_;
  Json result_;
};

// Walks valid JSON text to the value at a path.
class Finder {
 public:
  explicit Finder(std::string_view text) : text_(text) {}

  size_t find(const std::vector<std::string>& path) {
    for (const std::string& step : path) {
      skip_blanks();
      const bool object = text_[at_] == '{';
      ++at_;
      for (size_t index = 0;; ++index) {
        skip_blanks();
        if (object) {
          const size_t begin = at_;
          skip_value();
          const std::string key = Json::parse(text_.substr(begin, at_ - begin)).get<std::string>();
          skip_blanks();
          ++at_;  // the colon
          if (key == step) break;
        } else if (step == "[" + std::to_string(index) + "]") {
          break;
        }
        skip_value();
        skip_blanks();
        if (text_[at_] != ',') return at_;
        ++at_;
      }
    }
    skip_blanks();
    return at_;
  }

  std::string written(const std::vector<std::string>& path) {
    const size_t begin = find(path);
    skip_value();
    const size_t end = at_;
    std::string value;
    for (at_ = begin; at_ < end;) {
      const size_t from = at_;
      if (text_[at_] == '"') {
        skip_string();
      } else {
        ++at_;
      }
      value += text_.substr(from, at_ - from);
      skip_blanks();
    }
    return value;
  }

 private:
  void skip_blanks() {
    while (at_ < text_.size() && std::strchr(" \t\r\n\xEF\xBB\xBF", text_[at_]) != nullptr) ++at_;
  }
  void skip_string() {
    for (++at_; text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\') ++at_;
    }
    ++at_;
  }
  void skip_value() {
    skip_blanks();
    if (text_[at_] == '"') return skip_string();
    for (int depth = 0; at_ < text_.size();) {
      const char c = text_[at_];
      if (c == '"') {
        skip_string();
        continue;
      }
      if (depth == 0 && std::strchr(",]} \t\r\n", c) != nullptr) return;
      ++at_;
      if (c == '{' || c == '[') ++depth;
      if ((c == '}' || c == ']') && --depth == 0) return;
    }
  }

  std::string_view text_;
  size_t at_ = 0;
};

std::string describe(const Json& value) {  // no number: those are shown as written
  if (value.is_array()) return "an array of " + std::to_string(value.size());
  if (value.is_object()) return "an object";
  return printable(value.dump(-1, ' ', true, Json::error_handler_t::replace));
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr size_t kLimit = 160;
  std::string line;
  size_t at = 0;
  while (at < text.size() && at < kLimit) {
    const CodePoint point = decode_utf8(text, at);
    line += is_printable(point.value) ? text.substr(at, point.bytes) : "?";
    at += point.bytes;
  }
  return at < text.size() ? line + "..." : line;
}

Json parse_json(std::string_view text, const std::string& where, int64_t first_line, Numbers numbers) {
  return Builder(text, where, first_line, numbers).build();
}

std::string written_json(std::string_view text, const std::vector<std::string>& path) {
  return Finder(text).written(path);
}

JsonDocument::JsonDocument(std::string text, std::string where)
    : text_(std::move(text)), where_(std::move(where)), value_(parse_json(text_, where_)) {}

JsonDocument JsonDocument::read(const std::string& path, size_t max_bytes) {
  return JsonDocument(read_file(path, max_bytes), path);
}

JsonView JsonDocument::root() const { return JsonView(*this, value_, {}); }

std::string JsonView::path() const {
  std::string path;
  for (const std::string& step : path_) {
    if (!path.empty() && !step.starts_with('[')) path += '.';  // a key may be empty
    path += step;
  }
  std::replace_if(
      path.begin(), path.end(), [](unsigned char c) { return c < ' ' || c == 127; }, '?');
  return path.empty() ? "top level" : path;
}

std::string JsonView::written() const { return printable(written_json(document_->text_, path_)); }

bool JsonView::has(std::string_view key) const { return value_->is_object() && value_->contains(key); }

bool JsonView::has_value(std::string_view key) const {
  return has(key) && !(*value_)[std::string(key)].is_null();
}

JsonView JsonView::at(std::string_view key) const {
  as_object();
  const auto found = value_->find(key);
  if (found == value_->end()) fail("missing key \"" + std::string(key) + "\"");
  std::vector<std::string> path = path_;
  path.emplace_back(key);
  return JsonView(*document_, *found, std::move(path));
}

JsonView JsonView::at(size_t index) const {
  std::vector<std::string> path = path_;
  path.push_back("[" + std::to_string(index) + "]");
  return JsonView(*document_, as_array().value()[index], std::move(path));
}

const std::string& JsonView::as_string() const {
  if (!value_->is_string()) fail_expected("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonView::as_bool() const {
  if (!value_->is_boolean()) fail_expected("true or false");
  return value_->get<bool>();
}

int64_t JsonView::as_int(int64_t smallest, int64_t largest) const {
  const std::string expected =
      "an integer from " + std::to_string(smallest) + " to " + std::to_string(largest);
  int64_t integer = 0;
  if (value_->is_number_unsigned()) {
    const uint64_t value = value_->get<uint64_t>();
    if (value > static_cast<uint64_t>(INT64_MAX)) fail_expected(expected);
    integer = static_cast<int64_t>(value);
  } else if (value_->is_number_integer()) {
    integer = value_->get<int64_t>();
  } else if (value_->is_number_float()) {
    const double value = value_->get<double>();
    if (value != std::floor(value) || std::fabs(value) > 0x1p53) fail_expected(expected);
    integer = static_cast<int64_t>(value);
  } else {
    fail_expected(expected);
  }
  if (integer < smallest || integer > largest) fail_expected(expected);
  return integer;
}

double JsonView::as_number() const {
  if (!value_->is_number()) fail_expected("a number");
  return value_->get<double>();  // finite: JSON has no other
}

JsonView JsonView::as_object() const {
  if (!value_->is_object()) fail_expected("an object");
  return *this;
}

JsonView JsonView::as_array() const {
  if (!value_->is_array()) fail_expected("an array");
  return *this;
}

std::string JsonView::string_or(std::string_view key, const std::string& fallback) const {
  return has_value(key) ? at(key).as_string() : fallback;
}

bool JsonView::bool_or(std::string_view key, bool fallback) const {
  return has_value(key) ? at(key).as_bool() : fallback;
}

int64_t JsonView::int_or(std::string_view key, int64_t fallback, int64_t smallest, int64_t largest) const {
  return has_value(key) ? at(key).as_int(smallest, largest) : fallback;
}

double JsonView::number_or(std::string_view key, double fallback) const {
  return has_value(key) ? at(key).as_number() : fallback;
}

void JsonView::only_keys(std::initializer_list<std::string_view> keys) const {
  as_object();
  for (const auto& [key, value] : value_->items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) at(key).fail("unknown key");
  }
}

void JsonView::fail(const std::string& what) const {
  const size_t offset = Finder(document_->text_).find(path_);
  throw Error(ExitCode::kData, position_of(document_->text_, offset, document_->where_, 1),
              path() + ": " + what);
}

void JsonView::fail_expected(const std::string& expected) const {
  fail("wrong value" + expected_got(expected, value_->is_number() ? written() : describe(*value_)));
}

}  // namespace eep
