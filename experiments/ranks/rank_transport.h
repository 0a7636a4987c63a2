// What a message library does for the ranks of a run. mpi/mpi_transport.cpp is a library of its own that is
// loaded where the program is one of several ranks: one that is started plainly needs no MPI.
#pragma once

#include <string>

namespace eep {

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

  virtual void finish() = 0;  // every rank calls it, last
  virtual void abort(int code) = 0;
};

// Changes with the class above: a library of another version is refused.
constexpr int kRankTransportVersion = 1;
constexpr const char* kOpenRankTransport = "eep_open_rank_transport";
// Joins the other ranks. Null with the reason in `why` if that is impossible.
using OpenRankTransport = RankTransport* (*)(int version, std::string* why);

}  // namespace eep
