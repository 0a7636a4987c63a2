// A calibration pass under way as a file, so that one which was ended goes on from its last chunk.
//
//   "eep-calibration-state 2\n"  u32 length, identity  u64 rows  a layer each { u64 length, sums }  u64 XXH3-64 of all before
// The identity stands for model, text and options, which decide what the sums of a layer are.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "engine/calibration.h"

namespace eep {

std::string write_calibration_state(const CalibrationState& state, const std::string& identity);
// False where the bytes are damaged or another pass's.
bool read_calibration_state(std::string_view bytes, const std::string& identity, CalibrationState* state);

// A pass with its state kept in `file` about once a second, or as seldom as makes writing a tenth of the
// time, and removed at the end. pass: does the work with the options it is given. identity: all that decides
// the sums: model, text, options.
ExpertStatistics calibrate_resumably(
    const std::function<ExpertStatistics(const CalibrationOptions& options)>& pass,
    const CalibrationOptions& options, const std::string& file, const std::string& identity);

}  // namespace eep
