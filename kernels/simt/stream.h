// simt/stream.h - streams and events: what is given to a stream runs when someone waits for it, in order and
// as late as it may. An argument, staged copy or buffer that does not live until then shows as a use of freed
// memory.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <utility>

namespace simt {

class Stream {
 public:
  void add(std::function<void()> work) {
    queue_.push_back(std::move(work));
    ++added_;
  }
  // Runs all work up to number `end` of those ever added; what an exception leaves behind is dropped.
  void run_until(int64_t end) {
    while (done_ < end) {
      const std::function<void()> work = std::move(queue_.front());
      queue_.pop_front();
      ++done_;
      try {
        work();
      } catch (...) {
        queue_.clear();
        done_ = added_;
        throw;
      }
    }
  }
  void synchronize() { run_until(added_); }
  int64_t added() const { return added_; }

 private:
  std::deque<std::function<void()>> queue_;
  int64_t added_ = 0, done_ = 0;
};

// A point in a stream. Another stream that waits for it lets the work before it run first.
struct Event {
  Stream* stream = nullptr;
  int64_t position = 0;

  void record(Stream& in) { *this = {&in, in.added()}; }
  void make_wait(Stream& later) const {
    if (stream == nullptr) return;
    later.add([event = *this] { event.stream->run_until(event.position); });
  }
};

}  // namespace simt
