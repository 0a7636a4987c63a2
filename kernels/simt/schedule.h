// simt/schedule.h - the order in which blocks, warps and lanes take turns, whether asynchronous copies land
// at once or as late as they may, and among how many blocks a persistent grid divides its tiles. A result
// that depends on it is wrong: run every kernel under all of kSchedules.
#pragma once

namespace simt {

enum class Order { kForward, kReverse, kShuffled };
struct Schedule {
  Order order = Order::kForward;
  unsigned seed = 0;
  int multiprocessors = 1;  // 1: every block of a persistent grid walks many tiles
};
inline Schedule schedule;
inline constexpr Schedule kSchedules[] = {
    {Order::kForward, 0}, {Order::kReverse, 0}, {Order::kShuffled, 1, 3}};

}  // namespace simt
