// run_report: what a run leaves for people: the table, and the summary of a sweep.
#pragma once

#include <string>
#include <vector>

#include "experiments/study/experiment.h"
#include "experiments/study/run_directory.h"
#include "loaders/formats/json.h"

namespace eep {

// `key=value,...` of the swept fields that a table has no column for.
std::string combination_label(const Combination& combination, bool with_seed);

bool is_sweep(const std::vector<Combination>& combinations);

constexpr int64_t kResultVersion = 1;  // of result.json

// result.json of a finished combination. Throws Error(kData) where it lacks what the tables read.
Json read_result(const std::string& file);

// Writes table.txt, and of a sweep summary.json; results: [combinations]. Returns the table to
// show: of a sweep the compact one.
std::string write_report(const RunDirectory& directory, const std::vector<Combination>& combinations,
                         const std::vector<Json>& results);

}  // namespace eep
