// How an evaluation is divided over ranks: plans in the order in which they share most, laid out on a line by
// what each costs behind the one before it, and the line cut by the ranks' speeds. Who computes what decides
// nothing about results.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/config.h"
#include "engine/expert_plan.h"
#include "engine/prompts.h"

namespace eep {

struct SharedOrder {
  std::vector<size_t> plan;  // neighbours agree on as many first layers as can be
  std::vector<double> cost;  // [plans] layers that the plan does not share with the one before it
};
SharedOrder order_for_sharing(const ModelConfig& config, std::span<const ExpertPlan> plans);

// Plans [first, end) of the order on items [item_begin, item_end).
struct WorkPart {
  size_t first = 0, end = 0;
  int64_t item_begin = 0, item_end = 0;
  double cost = 0;  // of the order's plans x items

  bool operator==(const WorkPart&) const = default;
};

// [ranks] parts that end at about the same time: each plan and item is in one. Plans are cut between items
// only where there are few for so many ranks. speed: [ranks], above 0.
std::vector<std::vector<WorkPart>> divide_work(std::span<const double> cost, int64_t items,
                                               std::span<const double> speed);

// Where the parts of a calibration text end, for ranks that take them in turn: whole trees from first_row on,
// of most_rows at most where trees allow it. dense_end: the rows before it cost more, as every expert runs on
// them; 0: none do.
std::vector<int64_t> divide_text(const Prompts& prompts, int64_t first_row, int64_t dense_end, int ranks,
                                 int64_t most_rows);

// The ranks' speeds as the last evaluations show them, 1 being their mean.
class RankSpeeds {
 public:
  explicit RankSpeeds(size_t ranks) : speed_(ranks, 1.0) {}
  const std::vector<double>& speeds() const { return speed_; }
  // cost, seconds: [ranks]; those without work, and times too short to tell, say nothing.
  void measured(std::span<const double> cost, std::span<const double> seconds);

 private:
  std::vector<double> speed_;
};

}  // namespace eep
