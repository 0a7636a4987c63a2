// eep report: from run directories to report.html, figures/*.csv and card.md.
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace eep {

struct ReportOptions {
  std::vector<std::string> directories;  // of runs or sweeps
  std::string against;                   // scores from elsewhere (report/published.h), or ""
  std::string out;                       // directory, made where it is missing; "": the first of the runs'
  std::function<void(const std::string&)>
      warn{};  // of files that are missing, cut or of another version; or empty
};

// Returns the path of report.html. Throws Error: kNoInput, kData, kConfig of what is read, kIo.
std::string write_report_files(const ReportOptions& options);

// The report of a run that is over, in its directory. What goes wrong is a line for `warn`, never an error.
void report_after_run(const std::string& directory, const std::function<void(const std::string&)>& warn);

}  // namespace eep
