#include "loaders/formats/yaml.h"

#include <fmt/format.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <sstream>

#include "kernels/common/expected.h"
#include "loaders/formats/json.h"

namespace eep {
namespace {

constexpr size_t kMaxText = size_t{1} << 20;
constexpr size_t kMaxDepth = 32;
constexpr size_t kMaxValues = 20000;

std::string position(const std::string& where, const YAML::Mark& mark) {
  return fmt::format("{}:{}:{}", where, mark.line + 1, mark.column + 1);
}

// Builds the tree from the parser's events: nothing is resolved behind our back.
class TreeBuilder : public YAML::EventHandler {
 public:
  TreeBuilder(std::string where, ExitCode code) : where_(std::move(where)), code_(code) {}

  YamlValue take_root() { return std::move(root_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    no_anchor(mark, anchor);
    add({}, mark, false);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { refuse(mark, "aliases are not allowed"); }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    no_anchor(mark, anchor);
    if (tag != "?" && tag != "!" && !tag.empty())
      refuse(mark, "tags are not allowed (got " + printable(tag) + ")");
    YamlValue value;
    const bool plain = tag != "!";
    value.kind = plain && (text.empty() || text == "~" || text == "null") ? YamlValue::Kind::kNull
                                                                          : YamlValue::Kind::kScalar;
    value.scalar = text;
    value.quoted = !plain;
    add(std::move(value), mark, true);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlValue::Kind::kSequence);
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, tag, anchor, YamlValue::Kind::kMap);
  }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    YamlValue value;
    bool has_key = false;
    std::string key, key_where;
  };

  [[noreturn]] void refuse(const YAML::Mark& mark, const std::string& what) const {
    throw Error(code_, position(where_, mark), what);
  }
  void no_anchor(const YAML::Mark& mark, YAML::anchor_t anchor) const {
    if (anchor != YAML::NullAnchor) refuse(mark, "anchors are not allowed");
  }

  void count(const YAML::Mark& mark) {
    if (++values_ > kMaxValues)
      refuse(mark, fmt::format("too many values (expected at most {})", kMaxValues));
  }
  void open(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlValue::Kind kind) {
    count(mark);
    no_anchor(mark, anchor);
    if (tag != "?" && tag != "!" && !tag.empty())
      refuse(mark, "tags are not allowed (got " + printable(tag) + ")");
    if (levels_.size() >= kMaxDepth)
      refuse(mark, fmt::format("nested too deeply (expected at most {} levels)", kMaxDepth));
    if (!levels_.empty() && levels_.back().value.kind == YamlValue::Kind::kMap && !levels_.back().has_key) {
      refuse(mark, "a key must be a plain word");
    }
    Level level;
    level.value.kind = kind;
    level.value.where = position(where_, mark);
    levels_.push_back(std::move(level));
  }
  void close() {
    YamlValue value = std::move(levels_.back().value);
    levels_.pop_back();
    place(std::move(value));
  }
  void add(YamlValue value, const YAML::Mark& mark, bool scalar) {
    count(mark);
    value.where = position(where_, mark);
    if (!levels_.empty() && levels_.back().value.kind == YamlValue::Kind::kMap && !levels_.back().has_key) {
      Level& map = levels_.back();
      if (!scalar || value.scalar.empty()) refuse(mark, "a key must be a plain word");
      if (value.scalar == "<<") refuse(mark, "merge keys are not allowed");
      for (size_t i = 0; i < map.value.entries.size(); ++i) {
        if (map.value.entries[i].first == value.scalar) {
          refuse(mark, fmt::format("duplicate key {} (first at {})", printable(value.scalar),
                                   map.value.key_where[i]));
        }
      }
      map.has_key = true;
      map.key = value.scalar;
      map.key_where = value.where;
      return;
    }
    place(std::move(value));
  }
  void place(YamlValue value) {
    if (levels_.empty()) {
      root_ = std::move(value);
      return;
    }
    Level& level = levels_.back();
    if (level.value.kind == YamlValue::Kind::kSequence) {
      level.value.items.push_back(std::move(value));
      return;
    }
    level.value.entries.emplace_back(std::move(level.key), std::move(value));
    level.value.key_where.push_back(level.key_where);
    level.has_key = false;
  }

  std::string where_;
  ExitCode code_;
  YamlValue root_;
  std::vector<Level> levels_;
  size_t values_ = 0;
};

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string join(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += (out.empty() ? "" : ", ") + word;
  return out;
}

// What was found, short and printable.
std::string shown(const YamlValue& value) {
  switch (value.kind) {
    case YamlValue::Kind::kNull:
      return "nothing";
    case YamlValue::Kind::kSequence:
      return "a list";
    case YamlValue::Kind::kMap:
      return "a map";
    case YamlValue::Kind::kScalar:
      break;
  }
  const std::string text = printable(value.scalar);
  return value.quoted ? "\"" + text + "\"" : text;
}

}  // namespace

YamlValue::YamlValue() = default;
YamlValue::YamlValue(const YamlValue& other) = default;
YamlValue::YamlValue(YamlValue&& other) noexcept = default;
YamlValue& YamlValue::operator=(const YamlValue& other) = default;
YamlValue& YamlValue::operator=(YamlValue&& other) noexcept = default;
YamlValue::~YamlValue() = default;

const YamlValue* YamlValue::find(std::string_view key) const {
  for (const auto& [name, value] : entries) {
    if (name == key) return &value;
  }
  return nullptr;
}

YamlValue parse_yaml(const std::string& text, const std::string& where, ExitCode code) {
  if (text.size() > kMaxText) {
    throw Error(code, where,
                "too large" + expected_got(fmt::format("at most {} bytes", kMaxText), text.size()));
  }
  std::istringstream stream(text);
  TreeBuilder builder(where, code);
  try {
    YAML::Parser parser(stream);
    parser.HandleNextDocument(builder);
    TreeBuilder rest(where, code);
    if (parser.HandleNextDocument(rest)) throw Error(code, where, "several documents (expected 1)");
  } catch (const YAML::Exception& error) {
    throw Error(code, position(where, error.mark), printable(error.msg));
  }
  YamlValue root = builder.take_root();
  if (root.kind == YamlValue::Kind::kNull) {
    root.kind = YamlValue::Kind::kMap;
    root.where = where + ":1:1";
  }
  return root;
}

void set_yaml(YamlValue* root, const std::string& path, const std::string& value, const std::string& where) {
  std::vector<std::string> keys(1);
  for (char c : path) {
    if (c == '.') {
      keys.emplace_back();
    } else {
      keys.back() += c;
    }
  }
  set_yaml(root, keys, value, where);
}

void set_yaml(YamlValue* root, const std::vector<std::string>& keys, const std::string& value,
              const std::string& where) {
  if (keys.size() > kMaxDepth) throw Error(ExitCode::kConfig, printable(where), "nested too deeply");
  YamlValue* at = root;
  std::string prefix;
  for (const std::string& key : keys) {
    if (key.empty())
      throw Error(ExitCode::kConfig, printable(where), "a key is empty (expected KEY.KEY...=VALUE)");
    if (at->kind == YamlValue::Kind::kNull) at->kind = YamlValue::Kind::kMap;
    if (at->kind != YamlValue::Kind::kMap)
      throw Error(ExitCode::kConfig, printable(where), printable(prefix) + " is not a map");
    prefix += (prefix.empty() ? "" : ".") + key;
    auto found = std::find_if(at->entries.begin(), at->entries.end(),
                              [&](const auto& entry) { return entry.first == key; });
    if (found == at->entries.end()) {
      at->entries.emplace_back(key, YamlValue{});
      at->key_where.push_back(where);
      found = at->entries.end() - 1;
      found->second.where = where;
    }
    at = &found->second;
  }
  YamlValue parsed = parse_yaml("[" + value + "\n]", where);
  if (parsed.kind != YamlValue::Kind::kSequence || parsed.items.size() > 1) {
    throw Error(ExitCode::kConfig, where, "one value expected (write a list as [a, b])");
  }
  *at = parsed.items.empty() ? YamlValue{} : std::move(parsed.items[0]);
  at->where = where;
}

bool YamlView::has(std::string_view key) const {
  const YamlValue* value = value_->find(key);
  return value != nullptr && value->kind != YamlValue::Kind::kNull;
}

YamlView YamlView::at(std::string_view key) const {
  const YamlValue* value = value_->find(key);
  const std::string path = path_.empty() ? std::string(key) : path_ + "." + std::string(key);
  if (value == nullptr) throw Error(code_, value_->where, path + " is missing");
  return {*value, path, code_};
}

std::vector<YamlView> YamlView::sequence() const {
  if (!is_sequence()) fail_expected("a list");
  std::vector<YamlView> views;
  for (size_t i = 0; i < value_->items.size(); ++i) {
    views.emplace_back(value_->items[i], fmt::format("{}[{}]", path_, i), code_);
  }
  return views;
}

YamlView YamlView::as_map() const {
  if (!is_map()) fail_expected("a map");
  return *this;
}

void YamlView::only_keys(const std::vector<std::string>& keys) const {
  as_map();
  for (size_t i = 0; i < value_->entries.size(); ++i) {
    const std::string& key = value_->entries[i].first;
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    const std::string path = printable(path_.empty() ? key : path_ + "." + key);
    const std::string near = nearest(key, keys);
    throw Error(code_, value_->key_where[i], "unknown key " + path + " (expected one of " + join(keys) + ")",
                near.empty() ? "" : "did you mean " + near + "?");
  }
}

std::string YamlView::as_string() const {
  if (!is_scalar()) fail_expected("text");
  if (value_->scalar.find('\0') != std::string::npos) fail_expected("text without NUL characters");
  return value_->scalar;
}

bool YamlView::as_bool() const {
  if (is_scalar() && !value_->quoted && value_->scalar == "true") return true;
  if (is_scalar() && !value_->quoted && value_->scalar == "false") return false;
  fail_expected("true or false");
}

int64_t YamlView::as_int(int64_t smallest, int64_t largest) const {
  const std::string range = fmt::format("a whole number in {}..{}", smallest, largest);
  if (!is_scalar() || value_->quoted) fail_expected(range);
  const std::string& text = value_->scalar;
  const size_t digits = text[0] == '-' ? 1 : 0;
  const bool shaped = text.size() > digits && text.size() <= 20 &&
                      text.find_first_not_of("0123456789", digits) == std::string::npos &&
                      (text[digits] != '0' || text.size() == digits + 1);
  if (!shaped) fail_expected(range);
  int64_t number = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < smallest || number > largest) fail_expected(range);
  return number;
}

double YamlView::as_number(double smallest, double largest) const {
  const std::string range = fmt::format("a number in {}..{}", smallest, largest);
  if (!is_scalar() || value_->quoted) fail_expected(range);
  const std::string& text = value_->scalar;
  if (text.find_first_not_of("0123456789+-.eE") != std::string::npos) fail_expected(range);
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (end != text.c_str() + text.size() || !std::isfinite(number)) fail_expected(range);
  if (number < smallest || number > largest) fail_expected(range);
  const std::string digits = text.substr(0, text.find_first_of("eE"));
  const bool lost = number == 0 && digits.find_first_of("123456789") != std::string::npos;
  if (lost) fail_expected("0, or a number that a double holds");
  return number;
}

std::string YamlView::as_choice(const std::vector<std::string>& allowed) const {
  const std::string text = as_string();
  if (std::find(allowed.begin(), allowed.end(), text) != allowed.end()) return text;
  const std::string near = nearest(text, allowed);
  throw Error(
      code_, value_->where,
      fmt::format("{}: unknown value (expected one of {}; got {})", path_, join(allowed), shown(*value_)),
      near.empty() ? "" : "did you mean " + near + "?");
}

void YamlView::fail(const std::string& what) const {
  throw Error(code_, value_->where, path_.empty() ? what : path_ + ": " + what);
}

void YamlView::fail_expected(const std::string& expected) const {
  fail("wrong value" + expected_got(expected, shown(*value_)));
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  if (word.size() > 100) return "";
  std::string best;
  size_t distance = std::max<size_t>(2, word.size() / 3) + 1;
  for (const std::string& candidate : candidates) {
    const size_t d = edit_distance(word, candidate);
    if (d < distance) {
      distance = d;
      best = candidate;
    }
  }
  return best;
}

std::string yaml_string(std::string_view text) {
  std::string out = "\"";
  for (char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\r':
        out += "\\r";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
        } else {
          out += c;
        }
    }
  }
  return out + "\"";
}

}  // namespace eep
