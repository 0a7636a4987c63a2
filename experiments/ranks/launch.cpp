#include "experiments/ranks/launch.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

constexpr const char* kLibrary = "libeep_mpi.so";

// The whole number that the variable holds, or -1.
int number(const Environment& environment, const char* name) {
  const char* const text = environment(name);
  if (text == nullptr) return -1;
  int value = -1;
  const char* const end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  return error == std::errc() && stop == end && value >= 0 ? value : -1;
}

}  // namespace

int launched_ranks(const Environment& environment) {
  // Open MPI; MPICH and Intel MPI (Hydra, Slurm's pmi2); MVAPICH.
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE"}) {
    const int ranks = number(environment, name);
    if (ranks > 0) return ranks;
  }
  // srun tells a step's tasks; what it starts has a number of its own among them.
  if (number(environment, "SLURM_STEP_NUM_TASKS") > 0 && number(environment, "SLURM_PROCID") >= 0)
    return number(environment, "SLURM_STEP_NUM_TASKS");
  return 1;
}

int launched_local_rank(const Environment& environment) {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "MV2_COMM_WORLD_LOCAL_RANK",
                           "PMI_LOCAL_RANK", "SLURM_LOCALID", "LOCAL_RANK"}) {
    const int rank = number(environment, name);
    if (rank >= 0) return rank;
  }
  return -1;
}

void check_slurm_tasks(const Environment& environment, int ranks) {
  const int tasks = number(environment, "SLURM_NTASKS");
  if (tasks < 0 || tasks == ranks) return;
  throw Error(ExitCode::kUsage, "SLURM_NTASKS",
              "Slurm's tasks are not the ranks of this run" +
                  expected_got(tasks, fmt::format("{} rank{}", ranks, ranks == 1 ? "" : "s")),
              "start it with srun --mpi=pmix (srun --mpi=list shows what there is) or with mpirun -n " +
                  std::to_string(tasks) + "; for a single rank within a job unset SLURM_NTASKS");
}

int device_of_rank(int local_rank, int visible) { return visible > 1 ? local_rank % visible : 0; }

int threads_of_rank(int allowed, int online, int local_ranks) {
  const bool bound = allowed < online;  // the launcher gave each rank its own
  return std::max(1, bound ? allowed : online / std::max(1, local_ranks));
}

std::string transport_library() {
  if (const char* const named = std::getenv("EEP_MPI_LIBRARY")) return named;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  const std::filesystem::path beside = program.parent_path() / kLibrary;
  if (std::filesystem::exists(beside, error)) return beside.string();
  return (program.parent_path() / EEP_PLUGIN_DIRECTORY / kLibrary).lexically_normal().string();
}

std::string transport_obstacle() {
#ifdef EEP_HAVE_MPI
  std::error_code error;
  const std::string library = transport_library();
  return std::filesystem::exists(library, error) ? "" : library + " is not there";
#else
  return "this build has no MPI (libopenmpi-dev was not found)";
#endif
}

std::unique_ptr<RankTransport> open_transport(int launched) {
  const auto fail = [&](const std::string& why) {
    throw Error(ExitCode::kRuntime, "mpi",
                fmt::format("started as one of {} ranks, which cannot be joined: {}", launched, why),
                "eep doctor says what this build has; without a launcher it runs as one rank");
  };
  if (const std::string obstacle = transport_obstacle(); !obstacle.empty()) fail(obstacle);
  // Global: parts that the MPI library loads look for its symbols.
  void* const library = ::dlopen(transport_library().c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) fail(::dlerror());
  void* const symbol = ::dlsym(library, kOpenRankTransport);
  if (symbol == nullptr) fail(transport_library() + " is another library");
  std::string why;
  std::unique_ptr<RankTransport> transport(
      reinterpret_cast<OpenRankTransport>(symbol)(kRankTransportVersion, &why));
  if (!transport) fail(why);
  return transport;
}

}  // namespace eep
