#include "experiments/report/table.h"

#include <fmt/format.h>

#include <cmath>

namespace eep {
namespace {

void append_line(const std::vector<std::string>& cells, std::string* text) {
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i > 0) *text += ',';
    if (cells[i].find_first_of(",\"\r\n") == std::string::npos) {
      *text += cells[i];
      continue;
    }
    *text += '"';
    for (const char c : cells[i]) {
      if (c == '"') *text += '"';
      *text += c;
    }
    *text += '"';
  }
  *text += '\n';
}

}  // namespace

std::string number_text(double value) { return std::isfinite(value) ? fmt::format("{}", value) : ""; }
std::string number_text(std::optional<double> value) { return value ? number_text(*value) : ""; }

std::string csv_text(const Table& table) {
  std::string text;
  append_line(table.columns, &text);
  for (const std::vector<std::string>& row : table.rows) append_line(row, &text);
  return text;
}

}  // namespace eep
