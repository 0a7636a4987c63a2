// The numbers behind a figure: the figure's marks are drawn from them, and its CSV file holds them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace eep {

// The shortest decimal that reads back as the same double; "" for none.
std::string number_text(double value);
std::string number_text(std::optional<double> value);

struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;  // as many cells as columns

  void add(std::vector<std::string> row) { rows.push_back(std::move(row)); }
};

// RFC 4180 with line feeds, a first line of names.
std::string csv_text(const Table& table);

}  // namespace eep
