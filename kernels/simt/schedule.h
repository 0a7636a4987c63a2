// simt/schedule.h - the order in which blocks, warps and lanes take turns, and whether asynchronous copies
// land at once or as late as they may. A result that depends on it is wrong: run every kernel under all of
// kSchedules.
#pragma once

namespace simt {

enum class Order { kForward, kReverse, kShuffled };
struct Schedule {
  Order order = Order::kForward;
  unsigned seed = 0;
};
inline Schedule schedule;
inline constexpr Schedule kSchedules[] = {{Order::kForward, 0}, {Order::kReverse, 0}, {Order::kShuffled, 1}};

}  // namespace simt
