// Scores from elsewhere to set beside a run's own: `eep report --against FILE`.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "experiments/report/figures.h"
#include "loaders/tasks/statistics.h"

namespace eep {

struct PublishedRow {
  std::string task, method;
  std::optional<int64_t> experts;
  double score = 0;  // a fraction
  std::optional<Interval> interval;
};

struct Published {
  std::string source;  // who published it, or the file's name
  std::vector<PublishedRow> rows;
};

// Any of
//   {"format": "eep-published", "source": ..., "rows": [{"task": ..., "method": ..., "score": 0.87,
//     "experts": 4, "ci95": [0.85, 0.89]}, ...]}          (experts and ci95 may be left out)
//   a result.json, or the summary.json of a sweep
//   results of lm-evaluation-harness: {"results": {"boolq": {"acc,none": 0.87, "acc_stderr,none": 0.006}}}
// Throws Error: kNoInput, kData with the place.
Published read_published(const std::string& file);

// Every method of the runs beside every published row of its task (and budget, where one is named).
void add_published(std::span<const RunRecord> runs, const Published& published, const std::string& id,
                   std::vector<Figure>* figures);

}  // namespace eep
