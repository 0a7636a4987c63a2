// statistics_io: calibration statistics as a JSON file (SCORES.json), reusable at any budget.
//
//   {"format": "eep-statistics", "version": 1, "model": "xxh3:...", "data": "xxh3:...", "task": ...,
//    "experts": E, "top_k": k, "tokens": T,
//    "layers": [{"layer": l, "count": [E], "gate": [E], ...,
//                "subset_errors": [{"kept": K, "exhaustive": true, "subsets": [[K], ...], "error": [...],
//                                   "norm": n},
//                                  ...]},
//               ...]}
//
// The sums' names are those of engine/expert_statistics.h; those after max_activation, the matrices ([E * E])
// and, of a text file, "rows": {"used": n, "skipped": m} stand there where the pass made them.
#pragma once

#include <string>
#include <string_view>

#include "engine/expert_statistics.h"

namespace eep {

struct StatisticsFile {
  std::string model;                        // hash of the checkpoint, "" if unknown
  std::string data;                         // hash of the calibration text, "" if unknown
  std::string task;                         // its name, or that of the text file
  int64_t rows_used = 0, rows_skipped = 0;  // of a text file
  ExpertStatistics statistics;
};

// Ends with a line feed; numbers read back as the same doubles.
std::string statistics_json(const StatisticsFile& file);
// Strict: unknown or missing keys, wrong types, lengths, ranges, a number that is not finite or is negative.
// Throws Error(kData) naming `where` and the path of the value.
StatisticsFile parse_statistics(std::string_view text, const std::string& where);

}  // namespace eep
