#include "bench/gpu/result_table.h"

#include <fmt/format.h>

#include <cstdlib>

#include "kernels/common/error.h"

namespace eep::bench {
namespace {

constexpr const char* kHeader =
    "id,op,shape,median_us,iqr_percent,gflop,tflop_per_s,gb,gb_per_s,roof_us,roof_percent,times_library,"
    "bitwise,target,"
    "device,path,note";
constexpr size_t kDevice = 14, kTeraflops = 6, kGigabytes = 8;  // columns that are read back

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

}  // namespace

ResultTable::ResultTable(const std::string& path, const std::string& device) : path_(path), device_(device) {
  const char* chosen = std::getenv("EEP_CUDA_PATH");
  kernel_path_ = chosen == nullptr ? "" : chosen;
  if (path.empty()) return;
  const bool goes_on = std::ifstream(path).peek() != std::ifstream::traits_type::eof();
  file_.open(path, std::ios::app);
  if (!goes_on) file_ << kHeader << std::endl;
  if (!file_) throw Error(ExitCode::kIo, path, "cannot write");
}

void ResultTable::append(const ResultRow& row) {
  if (path_.empty()) return;
  file_ << fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}", row.id, quoted(row.op),
                       quoted(row.shape), number(row.median_us), number(row.iqr_percent), number(row.gflop),
                       number(row.tflop_per_s), number(row.gb), number(row.gb_per_s), number(row.roof_us),
                       number(row.roof_percent), number(row.times_library), row.bitwise, quoted(row.target),
                       quoted(device_), quoted(kernel_path_), quoted(row.note))
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

bool ResultTable::read_ceilings(const std::string& path, const std::string& device, Ceilings& ceilings) {
  std::ifstream file(path);
  bool found = false;
  for (std::string line; std::getline(file, line);) {
    const std::vector<std::string> fields = fields_of(line);
    if (fields.size() <= kDevice || fields[0] != "ceiling" || fields[kDevice] != device) continue;
    for (const NamedCeiling& ceiling : kCeilings) {
      if (fields[1] != ceiling.name) continue;
      const std::string& value = fields[ceiling.flops ? kTeraflops : kGigabytes];
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
         "| id | op | shape | median us | IQR % | GFLOP | TFLOP/s | GB | GB/s | roof us | % of roof | x "
         "library | run to "
         "run | target |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";
}

std::string ResultTable::markdown(const ResultRow& row) {
  if (!row.note.empty())
    return fmt::format("| {} | {} | {} | {} ||||||||||||", row.id, row.op, row.shape, row.note);
  return fmt::format(
      "| {} | {} | {} | {:.1f} | {:.0f} | {:.4g} | {} | {:.3g} | {:.4g} | {:.1f} | {:.0f} | {} | {} | {} |",
      row.id, row.op, row.shape, row.median_us, row.iqr_percent, row.gflop,
      row.gflop > 0 ? fmt::format("{:.4g}", row.tflop_per_s) : "-", row.gb, row.gb_per_s, row.roof_us,
      row.roof_percent, row.times_library > 0 ? fmt::format("{:.2f}", row.times_library) : "-",
      row.bitwise.empty()     ? "-"
      : row.bitwise == "same" ? "same bits"
                              : "DIFFERENT BITS",
      row.target);
}

}  // namespace eep::bench
