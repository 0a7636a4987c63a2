// The ranks' messages by MPI. Calls come from two threads, one at a time (MPI_THREAD_SERIALIZED); none blocks
// but the first and the last.
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1  // the C++ bindings of old
#endif
#include <dlfcn.h>
#include <mpi.h>

#include <algorithm>
#include <climits>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "experiments/ranks/rank_transport.h"

namespace eep {
namespace {

constexpr size_t kRowsPiece = size_t{1} << 30;  // of rows that one call takes: a count is an int

void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(status, text, &length);
  throw std::runtime_error(std::string(call) + ": " + std::string(text, static_cast<size_t>(length)));
}

class MpiTransport final : public RankTransport {
 public:
  MpiTransport() {
    int provided = MPI_THREAD_SINGLE;
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided), "MPI_Init_thread");
    if (provided < MPI_THREAD_SERIALIZED) {
      MPI_Finalize();
      throw std::runtime_error("this MPI serves one thread only (expected MPI_THREAD_SERIALIZED)");
    }
    check(MPI_Comm_dup(MPI_COMM_WORLD, &ranks_), "MPI_Comm_dup");
    check(MPI_Comm_dup(MPI_COMM_WORLD, &rows_), "MPI_Comm_dup");
    for (const MPI_Comm comm : {ranks_, rows_})
      check(MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(ranks_, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(ranks_, &size_), "MPI_Comm_size");
    MPI_Comm local = MPI_COMM_NULL;
    check(MPI_Comm_split_type(ranks_, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &local), "MPI_Comm_split_type");
    check(MPI_Comm_rank(local, &local_rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(local, &local_size_), "MPI_Comm_size");
    MPI_Comm_free(&local);
    char name[MPI_MAX_PROCESSOR_NAME];
    int length = 0;
    check(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name");
    host_.assign(name, static_cast<size_t>(length));
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return local_rank_; }
  int local_size() const override { return local_size_; }
  std::string host() const override { return host_; }

  std::string library() const override {
    char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    MPI_Get_library_version(text, &length);
    const std::string whole(text, static_cast<size_t>(length));
    return whole.substr(0, whole.find_first_of(",\n"));
  }

  // Of the library that is loaded, which need not be the one of the headers: its extension is looked up by
  // name.
  std::string cuda_aware() const override {
    using Query = int (*)();
    const auto query = reinterpret_cast<Query>(::dlsym(RTLD_DEFAULT, "MPIX_Query_cuda_support"));
    if (query == nullptr) return "not known";
    return query() == 1 ? "yes" : "no";
  }

  void send(int to, int tag, std::string bytes) override {
    if (bytes.size() > INT_MAX) throw std::runtime_error("a message of more than 2 GiB");
    const std::lock_guard lock(mutex_);
    Sending& sending = sending_.emplace_back();
    sending.bytes = std::move(bytes);
    check(MPI_Isend(sending.bytes.data(), static_cast<int>(sending.bytes.size()), MPI_BYTE, to, tag, ranks_,
                    &sending.request),
          "MPI_Isend");
  }

  bool receive(int* from, int* tag, std::string* bytes) override {
    const std::lock_guard lock(mutex_);
    forget_sent();
    if (discarding_) discard_arrived();
    int there = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    if (receiving_ == nullptr) {
      check(MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, ranks_, &there, &message, &status), "MPI_Improbe");
      if (there == 0) return false;
      int count = 0;
      check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
      receiving_ = std::make_unique<Receiving>();
      receiving_->from = status.MPI_SOURCE;
      receiving_->tag = status.MPI_TAG;
      receiving_->bytes.resize(static_cast<size_t>(count));
      check(MPI_Imrecv(receiving_->bytes.data(), count, MPI_BYTE, &message, &receiving_->request),
            "MPI_Imrecv");
    }
    int done = 0;
    check(MPI_Test(&receiving_->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
    if (done == 0) return false;
    *from = receiving_->from;
    *tag = receiving_->tag;
    *bytes = std::move(receiving_->bytes);
    receiving_.reset();
    return true;
  }

  bool all_sent() override {
    const std::lock_guard lock(mutex_);
    forget_sent();
    forget_sent_rows();
    return sending_.empty() && sending_rows_.empty();
  }

  void send_rows(int to, const void* memory, size_t bytes) override {
    const std::lock_guard lock(mutex_);
    std::vector<MPI_Request>& pieces = sending_rows_.emplace_back();
    for (size_t at = 0; at < bytes; at += kRowsPiece) {
      const int count = static_cast<int>(std::min(kRowsPiece, bytes - at));
      check(MPI_Isend(static_cast<const char*>(memory) + at, count, MPI_BYTE, to, kRowsTag, rows_,
                      &pieces.emplace_back(MPI_REQUEST_NULL)),
            "MPI_Isend");
    }
  }

  size_t rows_under_way() override {
    const std::lock_guard lock(mutex_);
    forget_sent_rows();
    return sending_rows_.size();
  }

  Arrival receive_rows(int from, void* memory, size_t bytes) override {
    const std::lock_guard lock(mutex_);
    while (arrived_ < bytes) {
      const size_t count = std::min(kRowsPiece, bytes - arrived_);
      if (arriving_ == MPI_REQUEST_NULL &&
          !begin_piece(from, static_cast<char*>(memory) + arrived_, static_cast<int>(count)))
        return arrived_ == 0 ? Arrival::kNone : Arrival::kUnderWay;
      int done = 0;
      check(MPI_Test(&arriving_, &done, MPI_STATUS_IGNORE), "MPI_Test");
      if (done == 0) return Arrival::kUnderWay;
      arrived_ += count;
    }
    arrived_ = 0;
    return Arrival::kWhole;
  }

  void discard_rows() override {
    const std::lock_guard lock(mutex_);
    discarding_ = true;
  }

  void finish() override {
    const std::lock_guard lock(mutex_);
    MPI_Comm_free(&ranks_);
    MPI_Comm_free(&rows_);
    MPI_Finalize();
  }

  void abort(int code) override { MPI_Abort(MPI_COMM_WORLD, code); }

 private:
  struct Sending {
    std::string bytes;
    MPI_Request request = MPI_REQUEST_NULL;
  };
  struct Receiving {
    int from = 0, tag = 0;
    std::string bytes;
    MPI_Request request = MPI_REQUEST_NULL;
  };

  void forget_sent() {
    for (auto sending = sending_.begin(); sending != sending_.end();) {
      int done = 0;
      check(MPI_Test(&sending->request, &done, MPI_STATUS_IGNORE), "MPI_Test");
      sending = done != 0 ? sending_.erase(sending) : std::next(sending);
    }
  }

  void forget_sent_rows() {
    while (!sending_rows_.empty()) {
      std::vector<MPI_Request>& pieces = sending_rows_.front();
      int done = 0;
      check(MPI_Testall(static_cast<int>(pieces.size()), pieces.data(), &done, MPI_STATUSES_IGNORE),
            "MPI_Testall");
      if (done == 0) return;
      sending_rows_.pop_front();
    }
  }

  // False: none is there.
  bool begin_piece(int from, char* memory, int bytes) {
    int there = 0, count = 0;
    MPI_Message message = MPI_MESSAGE_NULL;
    MPI_Status status;
    check(MPI_Improbe(from, kRowsTag, rows_, &there, &message, &status), "MPI_Improbe");
    if (there == 0) return false;
    check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
    if (count != bytes) {
      throw std::runtime_error("rows of another size (expected " + std::to_string(bytes) + " bytes, got " +
                               std::to_string(count) + ")");
    }
    check(MPI_Imrecv(memory, count, MPI_BYTE, &message, &arriving_), "MPI_Imrecv");
    return true;
  }

  void discard_arrived() {
    for (;;) {
      int there = 1;
      if (arriving_ != MPI_REQUEST_NULL) check(MPI_Test(&arriving_, &there, MPI_STATUS_IGNORE), "MPI_Test");
      if (there == 0) return;
      MPI_Message message = MPI_MESSAGE_NULL;
      MPI_Status status;
      check(MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, rows_, &there, &message, &status), "MPI_Improbe");
      if (there == 0) return;
      int count = 0;
      check(MPI_Get_count(&status, MPI_BYTE, &count), "MPI_Get_count");
      discarded_.resize(static_cast<size_t>(count));
      check(MPI_Imrecv(discarded_.data(), count, MPI_BYTE, &message, &arriving_), "MPI_Imrecv");
    }
  }

  static constexpr int kRowsTag = 0;
  std::mutex mutex_;
  MPI_Comm ranks_ = MPI_COMM_NULL, rows_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::string host_;
  std::list<Sending> sending_;  // their addresses stay
  std::unique_ptr<Receiving> receiving_;
  std::deque<std::vector<MPI_Request>> sending_rows_;  // [pieces] each
  MPI_Request arriving_ = MPI_REQUEST_NULL;            // a piece of the rows that are received
  size_t arrived_ = 0;                                 // bytes of the pieces before it
  bool discarding_ = false;
  std::string discarded_;
};

}  // namespace
}  // namespace eep

extern "C" eep::RankTransport* eep_open_rank_transport(int version, std::string* why) {
  if (version != eep::kRankTransportVersion) {
    *why = "the library belongs to another version of the program";
    return nullptr;
  }
  try {
    return new eep::MpiTransport();
  } catch (const std::exception& error) {
    *why = error.what();
    return nullptr;
  }
}
