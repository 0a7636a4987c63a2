// How the program was started: alone, or by a launcher (mpirun, srun) as one of several ranks. The
// environment says so before any message library is asked.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "experiments/ranks/rank_transport.h"

namespace eep {

using Environment = std::function<const char*(const char* name)>;  // getenv, or a test's

// Ranks that the launcher has started, by what it tells each: 1 where there is none. Slurm's count alone is
// not one: a script or a shell of a job has it too.
int launched_ranks(const Environment& environment);
// Among the ranks of this machine, as the launcher tells; -1: it does not.
int launched_local_rank(const Environment& environment);

// Throws Error(kUsage) if Slurm was asked for another number of tasks than there are ranks: each of them
// would believe that it is alone, or some would be left out.
void check_slurm_tasks(const Environment& environment, int ranks);

// The device of a rank where none is named: the only visible one (Slurm shows each task its own), else one
// for each local rank in turn.
int device_of_rank(int local_rank, int visible);

// Threads of a rank where none are named. allowed: processors that this process may use, of `online` ones.
int threads_of_rank(int allowed, int online, int local_ranks);

// The library of the message transport: where it would lie, and why it cannot be had ("": it is there).
std::string transport_library();
std::string transport_obstacle();
// Loads it and joins the other ranks. Throws Error(kRuntime).
std::unique_ptr<RankTransport> open_transport(int launched);

}  // namespace eep
