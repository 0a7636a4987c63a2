// A calibration pass kept in a run directory: a resumed run reads it instead of repeating it.
#pragma once

#include <optional>
#include <string>

#include "es/statistics_io.h"

namespace eep {

struct Calibration {
  StatisticsFile file;
  double seconds = 0;  // what the pass took
};

// Empty if the file is missing, damaged, or of another model, other text or other options.
std::optional<Calibration> read_calibration(const std::string& path, const std::string& model,
                                            const std::string& data, const std::string& options);
void write_calibration(const std::string& path, const Calibration& calibration, const std::string& options);

}  // namespace eep
