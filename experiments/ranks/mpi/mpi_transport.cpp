// The ranks' messages by MPI. Calls come from two threads, one at a time (MPI_THREAD_SERIALIZED); none blocks
// but the first and the last.
#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1  // the C++ bindings of old
#endif
#include <dlfcn.h>
#include <mpi.h>

#include <climits>
#include <list>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "experiments/ranks/rank_transport.h"

namespace eep {
namespace {

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
    check(MPI_Comm_set_errhandler(ranks_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
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
    return sending_.empty();
  }

  void finish() override {
    const std::lock_guard lock(mutex_);
    MPI_Comm_free(&ranks_);
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

  std::mutex mutex_;
  MPI_Comm ranks_ = MPI_COMM_NULL;
  int rank_ = 0, size_ = 1, local_rank_ = 0, local_size_ = 1;
  std::string host_;
  std::list<Sending> sending_;  // their addresses stay
  std::unique_ptr<Receiving> receiving_;
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
