#include "experiments/ranks/ranks.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>

#include "es/bytes.h"
#include "experiments/ranks/launch.h"
#include "kernels/common/expected.h"
#include "kernels/common/interrupt.h"

namespace eep {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kBeat = 1, kStop = 2, kEnd = 3, kBye = 4, kFailed = 5, kFacts = 6, kAllGone = 7;
constexpr milliseconds kBeatPeriod{1000}, kGrace{10000};
// Between looks: while the work waits for a message or for rows, while rows are being sent, else.
constexpr std::chrono::microseconds kAwaited{200}, kSending{1000}, kIdle{10000};
constexpr milliseconds kDefaultLimit{60000};
constexpr const char* kResume =
    "the run goes on with any number of ranks: eep run --resume, or the same command";

void put_string(const std::string& text, std::string& out) {
  put(static_cast<uint32_t>(text.size()), out);
  out += text;
}
std::string take_string(std::string_view& bytes) {
  return std::string(take_bytes(bytes, take<uint32_t>(bytes, "message"), "message"));
}

std::string facts_bytes(const RankFacts& facts) {
  std::string out;
  put_string(facts.host, out);
  for (const int value : {facts.local_rank, facts.local_size, facts.threads}) put(value, out);
  for (const std::string* text : {&facts.device, &facts.device_id, &facts.library, &facts.cuda_aware})
    put_string(*text, out);
  put(static_cast<uint64_t>(facts.memory), out);
  return out;
}

RankFacts facts_of(std::string_view bytes) {
  RankFacts facts;
  facts.host = take_string(bytes);
  for (int* value : {&facts.local_rank, &facts.local_size, &facts.threads})
    *value = take<int>(bytes, "message");
  for (std::string* text : {&facts.device, &facts.device_id, &facts.library, &facts.cuda_aware})
    *text = take_string(bytes);
  facts.memory = static_cast<size_t>(take<uint64_t>(bytes, "message"));
  return facts;
}

milliseconds silence_limit() {
  const char* const text = std::getenv("EEP_RANK_TIMEOUT");
  if (text == nullptr) return kDefaultLimit;
  char* end = nullptr;
  const double seconds = std::strtod(text, &end);
  if (end == text || *end != '\0' || !(seconds >= 1 && seconds <= 1e6))
    throw Error(ExitCode::kUsage, "EEP_RANK_TIMEOUT",
                "not a time" + expected_got("seconds, 1..1000000", text));
  return milliseconds(static_cast<int64_t>(seconds * 1000));
}

}  // namespace

void check_devices(const std::vector<RankFacts>& ranks, bool share) {
  if (share) return;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    for (size_t other = 0; other < rank; ++other) {
      const bool same = !ranks[rank].device_id.empty() && ranks[rank].device_id == ranks[other].device_id &&
                        ranks[rank].host == ranks[other].host;
      if (!same) continue;
      throw Error(ExitCode::kUsage, "--device",
                  fmt::format("ranks {} and {} on {} have one GPU, {} (expected one each)", other, rank,
                              ranks[rank].host, ranks[rank].device),
                  "start as many ranks as there are GPUs, or give --share-device");
    }
  }
}

std::string describe(const RankFacts& facts, int rank) {
  return fmt::format("rank {} on {} (local {} of {}): {}{}{}, {} threads, {}, {}, CUDA-aware: {}", rank,
                     facts.host, facts.local_rank, facts.local_size, facts.device,
                     facts.device_id.empty() ? "" : ", id ", facts.device_id, facts.threads,
                     facts.memory == 0 ? "memory unlimited"
                                       : fmt::format("{:.1f} GB", static_cast<double>(facts.memory) / 1e9),
                     facts.library, facts.cuda_aware);
}

std::unique_ptr<Ranks> Ranks::join() {
  const int launched = launched_ranks(std::getenv);
  if (launched < 2) return nullptr;
  const milliseconds limit = silence_limit();
  auto ranks = std::make_unique<Ranks>(open_transport(launched), limit);
  if (ranks->size() == launched) return ranks;
  throw Error(ExitCode::kRuntime, "mpi",
              "the launcher's ranks do not see each other" + expected_got(launched, ranks->size()),
              "launch with the MPI that eep doctor names; under Slurm: srun --mpi=pmix");
}

Ranks::Ranks(std::unique_ptr<RankTransport> transport, milliseconds limit)
    : transport_(std::move(transport)), limit_(limit) {
  peers_.resize(static_cast<size_t>(size()));
  facts_.resize(peers_.size());
  introduced_by_.resize(peers_.size(), 0);
  for (Peer& peer : peers_) peer.heard = Clock::now();
  // Signals are the main thread's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, &before);
  watcher_ = std::thread([this] { watch(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Ranks::~Ranks() {
  watching_ = false;
  if (watcher_.joinable()) watcher_.join();
}

void Ranks::send(int to, int tag, std::string bytes) { transport_->send(to, tag, std::move(bytes)); }

void Ranks::say_to_all(int tag, const std::string& bytes) {
  if (rank() > 0) return send(0, tag, bytes);
  for (int to = 1; to < size(); ++to) send(to, tag, bytes);
}

void Ranks::introduce(RankFacts facts) {
  facts.host = transport_->host();
  facts.local_rank = local_rank();
  facts.local_size = local_size();
  facts.library = transport_->library();
  facts.cuda_aware = transport_->cuda_aware();
  say_to_all(kFacts, facts_bytes(facts));
  if (rank() > 0) return;
  const std::lock_guard lock(mutex_);
  facts_[0] = std::move(facts);
  introduced_by_[0] = 1;
}

const std::vector<RankFacts>& Ranks::everybody() {
  const auto missing = [&] { return std::find(introduced_by_.begin(), introduced_by_.end(), 0); };
  wait_until([&] { return missing() == introduced_by_.end() || failure_ || interrupt_requested(); }, limit_);
  if (const auto failed = failure()) throw *failed;
  check_interrupted();
  if (missing() != introduced_by_.end()) {
    throw Error(ExitCode::kRuntime, fmt::format("rank {}", missing() - introduced_by_.begin()),
                fmt::format("has not begun after {} s", limit_.count() / 1000), kResume);
  }
  return facts_;
}

std::string Ranks::name(int rank) {
  const std::string& host = facts_[static_cast<size_t>(rank)].host;
  return host.empty() ? fmt::format("rank {}", rank) : fmt::format("rank {} ({})", rank, host);
}

bool Ranks::wait_until(const std::function<bool()>& done, milliseconds limit) {
  std::unique_lock lock(mutex_);
  waiting_ = true;
  const auto end = Clock::now() + limit;
  while (!done() && Clock::now() < end) changed_.wait_for(lock, kIdle);
  waiting_ = false;
  return done();
}

RankMessage Ranks::receive(std::initializer_list<int> tags) {
  const auto here = [&] {
    return std::any_of(inbox_.begin(), inbox_.end(), [&](const RankMessage& message) {
      return std::find(tags.begin(), tags.end(), message.tag) != tags.end();
    });
  };
  for (;;) {
    if (const auto failed = failure()) throw *failed;
    check_interrupted();
    take_in();  // the watcher may be asleep
    {
      const std::lock_guard lock(mutex_);
      const auto found = std::find_if(inbox_.begin(), inbox_.end(), [&](const RankMessage& message) {
        return std::find(tags.begin(), tags.end(), message.tag) != tags.end();
      });
      if (found != inbox_.end()) {
        RankMessage message = std::move(*found);
        inbox_.erase(found);
        return message;
      }
    }
    wait_until([&] { return here() || failure_ || interrupt_requested(); }, limit_);
  }
}

void Ranks::send_rows(int to, const void* memory, size_t bytes) { transport_->send_rows(to, memory, bytes); }

// An interrupt is the next call's: the memory is not free before.
void Ranks::await_rows_sent() noexcept {
  try {
    while (transport_->rows_under_way() > 0 && !lost()) {
      take_in();
      std::this_thread::sleep_for(kAwaited);
    }
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex_);
    lost_ = true;
    fail(Error(ExitCode::kRuntime, "mpi", error.what(), kResume));
  }
}

void Ranks::receive_rows(int from, void* memory, size_t bytes) {
  for (;;) {
    const Arrival arrival = transport_->receive_rows(from, memory, bytes);
    if (arrival == Arrival::kWhole) return;
    // Once they have begun to arrive, the memory is theirs until they are whole.
    if (arrival == Arrival::kNone || lost()) {
      if (const auto failed = failure()) throw *failed;
      check_interrupted();
    }
    take_in();
    std::this_thread::sleep_for(kAwaited);
  }
}

void Ranks::prepare_watcher(std::function<void()> call) {
  {
    const std::lock_guard lock(mutex_);
    prepare_ = std::move(call);
  }
  wait_until([&] { return prepare_ == nullptr || failure_; }, limit_);
  if (const auto failed = failure()) throw *failed;
}

bool Ranks::lost() {
  const std::lock_guard lock(mutex_);
  return lost_;
}

std::optional<RankMessage> Ranks::take_waiting(int tag) {
  const std::lock_guard lock(mutex_);
  const auto found = std::find_if(inbox_.begin(), inbox_.end(),
                                  [&](const RankMessage& message) { return message.tag == tag; });
  if (found == inbox_.end()) return std::nullopt;
  RankMessage message = std::move(*found);
  inbox_.erase(found);
  return message;
}

std::optional<Error> Ranks::failure() {
  const std::lock_guard lock(mutex_);
  return failure_;
}

// With the mutex held.
void Ranks::fail(Error error) {
  if (failure_ || end_) return;
  failure_ = std::move(error);
  failed_at_ = Clock::now();
  request_interrupt();
}

void Ranks::watch() {
  try {
    while (watching_.load()) {
      const bool arrived = take_in();
      const bool sending = !lost() && transport_->rows_under_way() > 0;
      bool awaited = false;
      {
        const std::lock_guard lock(mutex_);
        look_after(Clock::now());
        awaited = waiting_;
        if (prepare_) prepare_();
        prepare_ = nullptr;
      }
      if (arrived) changed_.notify_all();
      std::this_thread::sleep_for(awaited ? kAwaited : sending ? kSending : kIdle);
    }
  } catch (const std::exception& error) {
    const std::lock_guard lock(mutex_);
    lost_ = true;
    fail(Error(ExitCode::kRuntime, "mpi", error.what(), kResume));
  }
}

bool Ranks::take_in() {
  const std::lock_guard taking(taking_);
  if (lost()) return false;  // rows that nobody takes any more may have gone with their memory
  RankMessage message;
  bool arrived = false;
  while (transport_->receive(&message.from, &message.tag, &message.bytes)) {
    const std::lock_guard lock(mutex_);
    peers_[static_cast<size_t>(message.from)].heard = Clock::now();
    handle(std::move(message));
    message = {};
    arrived = true;
  }
  return arrived;
}

// With the mutex held.
void Ranks::handle(RankMessage message) {
  std::string_view bytes = message.bytes;
  const auto from = static_cast<size_t>(message.from);
  switch (message.tag) {
    case kBeat:
      break;
    case kStop:
      if (rank() > 0) told_stop_ = true;
      request_interrupt();
      break;
    case kEnd:
      end_ = take<int>(bytes, "message");
      request_interrupt();
      break;
    case kBye:
      peers_[from].gone = true;
      break;
    case kAllGone:
      all_gone_ = true;
      break;
    case kFailed: {
      const auto code = static_cast<ExitCode>(take<int>(bytes, "message"));
      const std::string what = take_string(bytes), hint = take_string(bytes);
      fail(Error(code, name(message.from), what, hint));
      break;
    }
    case kFacts:
      facts_[from] = facts_of(bytes);
      introduced_by_[from] = 1;
      break;
    default:
      inbox_.push_back(std::move(message));
  }
}

// With the mutex held: heartbeats, a signal that only this rank got, silent ranks.
void Ranks::look_after(Clock::time_point now) {
  if (interrupt_requested() && !told_stop_ && !end_) {
    told_stop_ = true;
    say_to_all(kStop, {});
  }
  if (now - last_beat_ >= kBeatPeriod) {
    last_beat_ = now;
    say_to_all(kBeat, {});
  }
  if (ending_) return;
  for (size_t peer = 0; peer < peers_.size(); ++peer) {
    const bool watched = rank() == 0 ? peer > 0 : peer == 0;
    if (!watched || peers_[peer].gone || now - peers_[peer].heard < limit_) continue;
    lost_ = true;
    fail(Error(ExitCode::kRuntime, name(static_cast<int>(peer)),
               "is silent" + expected_got("a sign of life every second",
                                          fmt::format("none for {} s", limit_.count() / 1000)),
               kResume));
  }
  if (lost_ && now - failed_at_ > kGrace)  // the work does not come to its next checkpoint
    end_at_once(static_cast<int>(ExitCode::kRuntime), failure_->what());
}

void Ranks::end_at_once(int code, const std::string& line) {
  const std::string text = "eep: error: " + line + "\n";
  const ssize_t ignored = ::write(STDERR_FILENO, text.data(), text.size());
  (void)ignored;
  ::_exit(code);
}

int Ranks::leave(int code, const Error* error) {
  bool lost = false;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    lost = lost_;
  }
  transport_->discard_rows();
  if (lost) {  // the others may wait for what does not come
    if (rank() > 0 && error != nullptr) end_at_once(code, error->what());
    transport_->abort(code);
    ::_exit(code);
  }
  if (rank() > 0) {
    if (error != nullptr) {
      std::string bytes;
      put(static_cast<int>(error->code()), bytes);
      put_string(error->what(), bytes);
      put_string(error->hint(), bytes);
      send(0, kFailed, std::move(bytes));
    }
    if (!wait_until([&] { return end_.has_value(); }, limit_ + kGrace)) end_at_once(code, "rank 0 is silent");
    send(0, kBye, {});
    code = *end_;
    // Another rank's rows may still be on their way here.
    wait_until([&] { return all_gone_; }, kGrace);
  } else {
    std::string bytes;
    put(code, bytes);
    say_to_all(kEnd, bytes);
    const auto gone = [&] {
      return std::all_of(peers_.begin() + 1, peers_.end(), [](const Peer& peer) { return peer.gone; });
    };
    if (!wait_until(gone, kGrace + limit_)) {
      transport_->abort(code);
      ::_exit(code);
    }
    say_to_all(kAllGone, {});
  }
  wait_until([&] { return transport_->all_sent(); }, kGrace);
  watching_ = false;
  watcher_.join();
  // The last call waits for all ranks: whoever was lost since must not keep this one.
  std::thread([code, limit = kGrace + limit_] {
    std::this_thread::sleep_for(limit);
    ::_exit(code);
  }).detach();
  transport_->finish();
  return code;
}

}  // namespace eep
