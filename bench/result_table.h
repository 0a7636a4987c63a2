// The tables of the benchmarks: a CSV file to which every row is appended, and flushed, as it is measured, so
// that a run that is cut off keeps what it has; and the same as Markdown on stdout.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "bench/ceilings.h"

namespace eep::bench {

// A line of the CSV file. Numbers that are 0 are left empty.
struct ResultRow {
  std::string id, op, shape;
  double median_us = 0, iqr_percent = 0, gflop = 0, tflop_per_s = 0, gb = 0, gb_per_s = 0, roof_us = 0,
         roof_percent = 0;
  double times_library = 0;     // the library's, or another baseline's, time over the op's
  std::string bitwise, target;  // of two runs: same, DIFFERENT; "": not compared, or not run
  std::string note;             // why a case was not run, or what a line without a case says
  double min_us = 0;
  double fma_percent = 0;  // of fused multiply-adds on the CPU
  std::string library;     // what times_library compares with
};

class ResultTable {
 public:
  // path "": no file. A file that is there goes on: its header is not written again. Throws Error(kUsage) if
  // it has other columns.
  ResultTable(const std::string& path, const std::string& device);

  void append(const ResultRow& row);
  void append(const Ceilings& ceilings);  // rows of id "ceiling"

  // The rows of the cases that a file holds with the median of the samples, those of other kernels
  // (EEP_CUDA_PATH) than this run's left out. Throws Error(kUsage) if it is no such file.
  static std::vector<ResultRow> read(const std::string& path);
  // The ceilings that the file already holds for this device, as an earlier run of the same table left them.
  static bool read_ceilings(const std::string& path, const std::string& device, Ceilings& ceilings);

  static std::string markdown_heading(const std::string& device, const Ceilings& ceilings, bool small);
  static std::string markdown(const ResultRow& row);

 private:
  std::string path_, device_;
  std::ofstream file_;
};

}  // namespace eep::bench
