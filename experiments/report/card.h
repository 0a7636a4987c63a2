// card.md: a model card of what the runs made, in the form that model hubs show.
#pragma once

#include <span>
#include <string>

#include "experiments/report/run_record.h"

namespace eep {

// No paths of this machine: models and files by their names.
std::string model_card_of_runs(std::span<const RunRecord> runs);

}  // namespace eep
