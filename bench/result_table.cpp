#include "bench/result_table.h"

#include <fmt/format.h>

#include <cstdlib>
#include <map>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep::bench {
namespace {

// New columns go to the end: scripts read the others by their place (bench/gpu_run.sh).
constexpr const char* kHeader =
    "id,op,shape,median_us,iqr_percent,gflop,tflop_per_s,gb,gb_per_s,roof_us,roof_percent,times_library,"
    "bitwise,target,device,path,note,min_us,fma_percent,library";

std::string number(double value) { return value == 0 ? "" : fmt::format("{:.5g}", value); }

std::string quoted(const std::string& text) {
  std::string result = "\"";
  for (char c : text)
    result += c == '"' ? std::string("\"\"") : c == '\n' ? std::string(" ") : std::string(1, c);
  return result + "\"";
}

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields(1);
  bool inside = false;
  for (char c : line) {
    if (c == '"')
      inside = !inside;
    else if (c == ',' && !inside)
      fields.emplace_back();
    else
      fields.back() += c;
  }
  return fields;
}

// The lines of a table, by the names of its columns.
std::vector<std::map<std::string, std::string>> lines_of(const std::string& path) {
  std::vector<std::map<std::string, std::string>> lines;
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const std::vector<std::string> names = fields_of(line);
  while (std::getline(file, line)) {
    const std::vector<std::string> fields = fields_of(line);
    auto& cells = lines.emplace_back();
    for (size_t i = 0; i < names.size() && i < fields.size(); ++i) cells[names[i]] = fields[i];
  }
  return lines;
}

// The kernels that were asked for.
std::string kernel_path() {
  const char* const chosen = std::getenv("EEP_CUDA_PATH");
  return chosen == nullptr ? "" : chosen;
}

}  // namespace

ResultTable::ResultTable(const std::string& path, const std::string& device) : path_(path), device_(device) {
  if (path.empty()) return;
  std::string header;
  std::ifstream earlier(path);
  const bool goes_on = static_cast<bool>(std::getline(earlier, header));
  if (goes_on && header != kHeader)
    throw Error(ExitCode::kUsage, path, "a file with other columns" + expected_got(kHeader, header));
  file_.open(path, std::ios::app);
  if (!goes_on) file_ << kHeader << std::endl;
  if (!file_) throw Error(ExitCode::kIo, path, "cannot write");
}

void ResultTable::append(const ResultRow& row) {
  if (path_.empty()) return;
  file_ << fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}", row.id, quoted(row.op),
                       quoted(row.shape), number(row.median_us), number(row.iqr_percent), number(row.gflop),
                       number(row.tflop_per_s), number(row.gb), number(row.gb_per_s), number(row.roof_us),
                       number(row.roof_percent), number(row.times_library), row.bitwise, quoted(row.target),
                       quoted(device_), quoted(kernel_path()), quoted(row.note), number(row.min_us),
                       number(row.fma_percent), quoted(row.library))
        << std::endl;
  if (!file_) throw Error(ExitCode::kIo, path_, "cannot write");
}

void ResultTable::append(const Ceilings& ceilings) {
  for (const NamedCeiling& ceiling : kCeilings) {
    ResultRow row;
    row.id = "ceiling";
    row.op = ceiling.name;
    (ceiling.flops ? row.tflop_per_s : row.gb_per_s) = ceilings.*ceiling.rate / (ceiling.flops ? 1e12 : 1e9);
    append(row);
  }
}

std::vector<ResultRow> ResultTable::read(const std::string& path) {
  std::ifstream file(path);
  std::string header;
  if (!std::getline(file, header) || !header.starts_with("id,op,shape,median_us,iqr_percent,"))
    throw Error(ExitCode::kUsage, path, "not a table of a benchmark" + expected_got(kHeader, header));
  std::vector<ResultRow> rows;
  for (auto& cells : lines_of(path)) {
    if (cells["median_us"].empty() || cells["path"] != kernel_path()) continue;
    ResultRow& row = rows.emplace_back();
    row.id = cells["id"];
    row.op = cells["op"];
    row.shape = cells["shape"];
    row.median_us = std::atof(cells["median_us"].c_str());
    row.iqr_percent = std::atof(cells["iqr_percent"].c_str());
  }
  return rows;
}

bool ResultTable::read_ceilings(const std::string& path, const std::string& device, Ceilings& ceilings) {
  bool found = false;
  for (auto& cells : lines_of(path)) {
    if (cells["id"] != "ceiling" || cells["device"] != device) continue;
    for (const NamedCeiling& ceiling : kCeilings) {
      if (cells["op"] != ceiling.name) continue;
      const std::string& value = cells[ceiling.flops ? "tflop_per_s" : "gb_per_s"];
      ceilings.*ceiling.rate = std::atof(value.c_str()) * (ceiling.flops ? 1e12 : 1e9);
      found = true;
    }
  }
  return found;
}

std::string ResultTable::markdown_heading(const std::string& device, const Ceilings& ceilings, bool small) {
  std::string text = fmt::format("# {}\n\n", device);
  if (small) text += "Small extents or the host executor: the code runs, times mean nothing.\n\n";
  return text + fmt::format("Ceilings of this run: {}.\n\n", describe(ceilings)) +
         "| id | op | shape | median us | min us | IQR % | GFLOP | TFLOP/s | GB | GB/s | roof us | % of roof "
         "| % of FMA | x library | run to run | target |\n"
         "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";
}

std::string ResultTable::markdown(const ResultRow& row) {
  if (!row.note.empty())
    return fmt::format("| {} | {} | {} | {} |||||||||||||", row.id, row.op, row.shape, row.note);
  const auto there = [](double value, const std::string& text) { return value > 0 ? text : "-"; };
  return fmt::format(
      "| {} | {} | {} | {:.1f} | {:.1f} | {:.0f} | {:.4g} | {} | {:.3g} | {:.4g} | {:.1f} | {:.0f} | {} | {} "
      "| {} | {} |",
      row.id, row.op, row.shape, row.median_us, row.min_us, row.iqr_percent, row.gflop,
      there(row.gflop, fmt::format("{:.4g}", row.tflop_per_s)), row.gb, row.gb_per_s, row.roof_us,
      row.roof_percent, there(row.fma_percent, fmt::format("{:.0f}", row.fma_percent)),
      there(row.times_library, fmt::format("{:.2f} {}", row.times_library, row.library)),
      row.bitwise.empty()     ? "-"
      : row.bitwise == "same" ? "same bits"
                              : "DIFFERENT BITS",
      row.target);
}

}  // namespace eep::bench
