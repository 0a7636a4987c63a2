// A calibration pass under way as a file, so that one which was ended goes on from its last chunk.
//
//   "eep-calibration-state\n"  u32 length, identity  u64 rows  u64 tokens
//   a layer each { f64 sums  f64 subset errors, their norm  u64 taken  u64 rows  f32 x  f32 logits }  u64 XXH3-64 of all before
// The sizes follow from the model and the options, which the identity stands for.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "engine/calibration.h"

namespace eep {

std::string write_calibration_state(const CalibrationState& state, const std::string& identity);
// Fills what has the sizes of this pass before it begins. False where the bytes are damaged or another pass's.
bool read_calibration_state(std::string_view bytes, const std::string& identity, CalibrationState* state);

// calibrate() with the state, unless details are asked for, kept in `file` about once a second, and removed at the end. identity: all that
// decides the sums: model, text, options.
ExpertStatistics calibrate_resumably(const Weights& weights, size_t memory_budget, const Prompts& prompts,
                                     const CalibrationOptions& options, const std::string& file,
                                     const std::string& identity);

}  // namespace eep
