// Ranks: the processes of one run. Rank 0 has the run: it searches, and writes every file; the others compute
// what it sends them. Messages are addressed; there is no collective call that a signal or a lost rank could
// leave somebody in. A thread beside the work keeps them alive for each other: it takes messages in, passes
// on a request to stop, and finds a rank that is silent for too long.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "experiments/ranks/rank_transport.h"
#include "kernels/common/error.h"

namespace eep {

// What a rank says of itself.
struct RankFacts {
  std::string host;
  int local_rank = 0, local_size = 1;
  int threads = 1;
  std::string device;     // "cpu", "cuda:1 NVIDIA H100 ..."
  std::string device_id;  // of a GPU, unique on its host; else ""
  size_t memory = 0;      // bytes that it may use, 0: unlimited
  std::string library, cuda_aware;
};

// Throws Error(kUsage) if two ranks of a host have one GPU and they shall not share.
void check_devices(const std::vector<RankFacts>& ranks, bool share);
// "rank 1 on host n3 (local 1 of 4): ..."
std::string describe(const RankFacts& facts, int rank);

struct RankMessage {
  int from = 0;
  int tag = 0;
  std::string bytes;
};

class Ranks {
 public:
  // Null where the program was started as one process. Throws Error(kRuntime).
  static std::unique_ptr<Ranks> join();
  // limit: a rank that is silent for so long is lost.
  Ranks(std::unique_ptr<RankTransport> transport, std::chrono::milliseconds limit);
  ~Ranks();
  Ranks(const Ranks&) = delete;
  Ranks& operator=(const Ranks&) = delete;

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }
  int local_rank() const { return transport_->local_rank(); }
  int local_size() const { return transport_->local_size(); }
  const RankTransport& transport() const { return *transport_; }

  // Tells rank 0 about this one. Rank 0: waits for all, in their order.
  void introduce(RankFacts facts);
  const std::vector<RankFacts>& everybody();
  // "rank 2 (host)"
  std::string name(int rank);

  // Tags of the work are kFirstTag and above.
  static constexpr int kFirstTag = 16;
  void send(int to, int tag, std::string bytes);
  // The next message with one of these tags. Throws Interrupted, and Error where a rank has failed or is
  // lost.
  RankMessage receive(std::initializer_list<int> tags);
  // Rows of the work, beside the messages (rank_transport.h). The memory stays as it is until
  // await_rows_sent() has returned: the other rank has taken them, or leaves, or one is lost.
  void send_rows(int to, const void* memory, size_t bytes);
  size_t rows_under_way() { return transport_->rows_under_way(); }
  void await_rows_sent() noexcept;
  // Throws Interrupted where nothing has arrived yet, and Error where a rank has failed or is lost.
  void receive_rows(int from, void* memory, size_t bytes);
  // Called once by the thread that moves messages, before it moves another: rows of a device may want it.
  void prepare_watcher(std::function<void()> call);

  // The next one of that tag that is here, whatever else has happened.
  std::optional<RankMessage> take_waiting(int tag);

  // The failure of another rank, where that is why this one was stopped.
  std::optional<Error> failure();

  // Rank 0: ends the others with the same code. Others: `error`, if there is one, goes to rank 0, which says
  // it; then they wait for their end. Returns the exit code of the process.
  int leave(int code, const Error* error = nullptr);

 private:
  struct Peer {
    std::chrono::steady_clock::time_point heard;
    bool gone = false;  // has said good-bye
  };
  void watch();
  bool take_in();  // whether there was something
  void handle(RankMessage message);
  void look_after(std::chrono::steady_clock::time_point now);
  void fail(Error error);
  void say_to_all(int tag, const std::string& bytes);
  bool lost();
  bool wait_until(const std::function<bool()>& done, std::chrono::milliseconds limit);
  [[noreturn]] void end_at_once(int code, const std::string& line);

  std::unique_ptr<RankTransport> transport_;
  std::chrono::milliseconds limit_;
  std::mutex taking_;  // one thread at a time takes messages in, so that they keep their order
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<RankMessage> inbox_;
  std::vector<Peer> peers_;
  std::vector<RankFacts> facts_;
  std::vector<uint8_t> introduced_by_;
  std::optional<Error> failure_;
  std::chrono::steady_clock::time_point failed_at_{}, last_beat_{};
  std::optional<int> end_;  // the code that rank 0 wants
  bool lost_ = false, told_stop_ = false, ending_ = false, all_gone_ = false, waiting_ = false;
  std::function<void()> prepare_;  // what the watcher has not called yet
  std::thread watcher_;
  std::atomic<bool> watching_{true};
};

}  // namespace eep
