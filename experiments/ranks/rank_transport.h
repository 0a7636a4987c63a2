// What a message library does for the ranks of a run. mpi/mpi_transport.cpp is a library of its own that is
// loaded where the program is one of several ranks: one that is started plainly needs no MPI.
#pragma once

#include <cstddef>
#include <string>

namespace eep {

// Of rows that are to be received.
enum class Arrival { kNone, kUnderWay, kWhole };

class RankTransport {
 public:
  virtual ~RankTransport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int local_rank() const = 0;  // among the ranks that share this one's memory
  virtual int local_size() const = 0;
  virtual std::string host() const = 0;        // of this rank
  virtual std::string library() const = 0;     // name and version
  virtual std::string cuda_aware() const = 0;  // yes, no, not known

  // Begins to send, and holds the bytes until they are gone.
  virtual void send(int to, int tag, std::string bytes) = 0;
  // Takes a message that has arrived; false: none has. Moves on what is under way.
  virtual bool receive(int* from, int* tag, std::string* bytes) = 0;
  virtual bool all_sent() = 0;

  // Rows go beside the messages, in an order of their own for each pair of ranks, between memory of the
  // callers: a device's where the library is CUDA-aware. What is sent stays as it is while it is under way.
  virtual void send_rows(int to, const void* memory, size_t bytes) = 0;
  // Sends from the first one on that is not over: so many were begun last.
  virtual size_t rows_under_way() = 0;
  // Goes on to receive the next rows of that rank. The caller asks again, with the same memory, until they
  // are whole.
  virtual Arrival receive_rows(int from, void* memory, size_t bytes) = 0;
  // From now on rows that arrive are thrown away, in receive(), so that their senders can leave.
  virtual void discard_rows() = 0;

  virtual void finish() = 0;  // every rank calls it, last
  virtual void abort(int code) = 0;
};

// Changes with the class above: a library of another version is refused.
constexpr int kRankTransportVersion = 2;
constexpr const char* kOpenRankTransport = "eep_open_rank_transport";
// Joins the other ranks. Null with the reason in `why` if that is impossible.
using OpenRankTransport = RankTransport* (*)(int version, std::string* why);

}  // namespace eep
