// eep doctor: what this machine and this build offer, and what is disabled and why.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/Version.hpp>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <set>
#include <sstream>

#include "engine/kernel_path.h"
#include "engine/ops.h"
#include "experiments/program/model_doctor.h"
#include "experiments/program/program.h"
#include "experiments/ranks/launch.h"
#include "experiments/ranks/ranks.h"
#include "experiments/study/version.h"
#include "kernels/cpu/amx.h"
#include "kernels/cpu/cpu_target.h"
#include "loaders/formats/json.h"

namespace eep {
namespace {

struct Arguments {
  std::string model;
  bool json = false;
};

// The value of the first line "NAME : VALUE" of a file of the kernel's, or "".
std::string field(const std::string& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (!line.starts_with(name) || colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

// Those that matter to matrix kernels, of this machine's.
std::vector<std::string> cpu_features() {
  static const std::set<std::string> kKnown{
      "sse4_2",   "avx",         "avx2",     "fma",      "f16c",        "bmi2",        "avx_vnni", "avx512f",
      "avx512bw", "avx512_vnni", "avx512vl", "avx512dq", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16",
      "asimd",    "asimdhp",     "asimddp",  "bf16",     "i8mm",        "sve",         "sve2"};
  std::string flags = field("/proc/cpuinfo", "flags");
  if (flags.empty()) flags = field("/proc/cpuinfo", "Features");
  std::vector<std::string> features;
  std::istringstream words(flags);
  for (std::string word; words >> word;) {
    if (kKnown.count(word) != 0) features.push_back(word);
  }
  return features;
}

// Names of the NVIDIA GPUs that the driver shows.
std::vector<std::string> gpus() {
  std::vector<std::string> names;
  std::error_code error;
  std::filesystem::directory_iterator entry("/proc/driver/nvidia/gpus", error), end;
  for (; !error && entry != end; entry.increment(error)) {
    const std::string name = field((entry->path() / "information").string(), "Model");
    names.push_back(name.empty() ? "unknown" : name);
  }
  return names;
}

// Where the CUDA kernels have run, as bench/results says.
constexpr const char* kConfirmed = "NVIDIA H100 80GB HBM3; no other GPU yet";

constexpr const char* kNoMatrixUnit =
    "not found (processor, or leave of the kernel): --precision bf16 multiplies by vectors, to the same bits";

// Whether the CUDA backend can be used here, and if not, why.
std::string cuda_state() {
  if (!cuda_built()) return "the CUDA backend is not part of this build (EEP_CUDA)";
  if (cuda_device_count() == 0)
    return "the CUDA backend (sm_80, sm_90a, PTX) is built in, but finds no device or driver";
  std::string text = "the CUDA backend (sm_80, sm_90a, PTX) can use";
  for (int index = 0; index < cuda_device_count(); ++index) {
    text += fmt::format("{} cuda:{} {}", index == 0 ? "" : ",", index, cuda_device_text(index));
  }
  return text;
}

int doctor(const Arguments& arguments, CommandContext& context) {
  const auto targets = cpu_targets();
  const auto features = cpu_features();
  const auto cards = gpus();
  const std::string driver = field("/proc/driver/nvidia/version", "NVRM version");
  const double memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  const Json libraries{
      {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
      {"nlohmann_json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                                    NLOHMANN_JSON_VERSION_PATCH)},
      {"CLI11", CLI11_VERSION},
      {"highway", EEP_HIGHWAY_VERSION},
      {"yaml-cpp", EEP_YAML_CPP_VERSION},
      {"utf8proc", EEP_UTF8PROC_VERSION},
      {"xxhash", EEP_XXHASH_VERSION}};
#ifdef _OPENMP
  const bool openmp = true;
#else
  const bool openmp = false;
#endif
  std::string waiting;  // how threads wait: what the environment says, or main.cpp
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}) {
    const char* const value = std::getenv(name);
    if (value != nullptr) waiting += (waiting.empty() ? "" : " ") + fmt::format("{}={}", name, value);
  }
  std::optional<ModelDiagnosis> model;
  if (!arguments.model.empty()) model = diagnose_model(arguments.model, memory, context);
  const std::string cuda = cuda_state();
  const std::string without_mpi = transport_obstacle();
  const std::string mpi =
      without_mpi.empty() ? "runs over several ranks: " + transport_library() : without_mpi;
  std::vector<std::string> ranks;
  if (context.ranks != nullptr) {
    if (context.ranks->rank() > 0) return 0;  // rank 0 speaks for all
    for (const RankFacts& facts : context.ranks->everybody())
      ranks.push_back(describe(facts, static_cast<int>(ranks.size())));
  }
  if (arguments.json) {
    Json json{{"version", kVersion},
              {"compiler", __VERSION__},

              {"cpu",
               {{"name", field("/proc/cpuinfo", "model name")},
                {"features", features},
                {"targets", targets},
                {"target", cpu_target()},
                {"threads", context.options.device.threads},
                {"waiting", waiting},
                {"memory", memory}}},
              {"gpus", cards},
              {"cuda_built", cuda_built()},
              {"cuda_confirmed", kConfirmed},
              {"kernel_path", kernel_path_setting()},
              {"mpi", mpi},
              {"ranks", ranks},
              {"driver", driver.empty() ? Json(nullptr) : Json(driver)},
              {"libraries", libraries},
              {"disabled",
               {{"amx", amx_found() ? Json(nullptr) : Json(kNoMatrixUnit)},
                {"cuda", cuda_device_count() > 0 ? Json(nullptr) : Json(cuda)},
                {"mpi", without_mpi.empty() ? Json(nullptr) : Json(without_mpi)},
                {"openmp", openmp ? Json(nullptr) : Json("built without OpenMP: one thread")}}}};
    if (model) json["model"] = model->json;
    context.out << json.dump(2) << "\n";
    return 0;
  }
  const auto line = [&](const char* name, const std::string& value) {
    context.out << fmt::format("{:<12}{}\n", name, value);
  };
  std::string versions;
  for (const auto& [name, version] : libraries.items())
    versions += (versions.empty() ? "" : ", ") + name + " " + version.get<std::string>();
  line("eep", kVersion);
  line("compiler", __VERSION__);
  line("cpu", field("/proc/cpuinfo", "model name"));
  line("features", fmt::format("{}", fmt::join(features, " ")));
  line("kernels", fmt::format("{} (this machine can run {})", cpu_target(), fmt::join(targets, ", ")));
  line("amx", amx_found() ? "found: --precision bf16 multiplies on the matrix unit" : kNoMatrixUnit);
  line("threads",
       openmp ? fmt::format("{} ({})", context.options.device.threads, waiting) : "1: built without OpenMP");
  line("memory", fmt::format("{:.1f} GB", memory / 1e9));
  line("gpu",
       fmt::format("{}: {}", cards.empty() ? "none" : fmt::format("{}", fmt::join(cards, ", ")), cuda));
  line("confirmed on", kConfirmed);
  line("kernel path", fmt::format("{}={} (auto: wgmma on compute capability 9.0, else mma)",
                                  kKernelPathSetting, kernel_path_setting()));
  line("driver", driver.empty() ? "none" : driver);
  line("libraries", versions);
  line("mpi", mpi);
  for (const std::string& rank : ranks) context.out << rank << "\n";
  if (model) {
    for (const auto& [name, value] : model->lines) line(name.c_str(), value);
  }
  return 0;
}

}  // namespace

void register_doctor(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("doctor", "Describe this machine and this build, and whether a model can be used here",
                   "eep doctor experiments/demo/mixtral",
                   [=](CommandContext& context) { return doctor(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory");
  command.flag("--json", arguments->json, "machine-readable");
}

}  // namespace eep
