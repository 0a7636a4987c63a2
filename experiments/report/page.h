// report.html: one file that needs nothing beside it, no script, no network.
#pragma once

#include <string>
#include <vector>

#include "experiments/report/figures.h"
#include "experiments/report/run_record.h"

namespace eep {

struct PageRun {
  const RunRecord* run = nullptr;
  std::vector<Figure> figures;  // empty: only its facts are on the page
};

// compared: figures of all runs together.
std::string report_page(const std::vector<PageRun>& runs, const std::vector<Figure>& compared);

}  // namespace eep
