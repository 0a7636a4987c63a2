// eep doctor: what this machine and this build offer, and what is disabled and why.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <thread>

#include "experiments/program.h"
#include "experiments/version.h"
#include "kernels/cpu_target.h"
#include "loaders/json.h"

namespace eep {
namespace {

int doctor(bool as_json, CommandContext& context) {
  const auto targets = cpu_targets();
  const double memory =
      static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
#ifdef _OPENMP
  const bool openmp = true;
#else
  const bool openmp = false;
#endif
  const Json json{{"version", kVersion},
                  {"compiler", __VERSION__},
                  {"cpu",
                   {{"targets", targets},
                    {"target", cpu_target()},
                    {"threads", std::thread::hardware_concurrency()},
                    {"memory", memory}}},
                  {"gpus", Json::array()},
                  {"driver", nullptr},
                  {"libraries",
                   {{"fmt", FMT_VERSION},
                    {"nlohmann_json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR,
                                                  NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH)},
                    {"CLI11", CLI11_VERSION}}},
                  {"disabled",
                   {{"cuda", "the CUDA backend is not part of this build"},
                    {"openmp", openmp ? Json(nullptr) : Json("built without OpenMP: one thread")}}}};
  if (as_json) {
    context.out << json.dump(2) << "\n";
    return 0;
  }
  const auto line = [&](const char* name, const std::string& value) {
    context.out << fmt::format("{:<12}{}\n", name, value);
  };
  line("eep", kVersion);
  line("compiler", __VERSION__);
  line("cpu", fmt::format("{} (of {}), {} threads, {:.1f} GB of memory", cpu_target(),
                          fmt::join(targets, ", "), std::thread::hardware_concurrency(), memory / 1e9));
  line("gpu", "none: the CUDA backend is not part of this build");
  line("threads", openmp ? "OpenMP" : "one: built without OpenMP");
  return 0;
}

}  // namespace

void register_doctor(CLI::App& app, const SelectCommand& select) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command = app.add_subcommand("doctor", "Describe this machine and this build");
  command->add_flag("--json", *json, "machine-readable");
  command->footer("Example: eep doctor --json");
  command->callback([=] { select([=](CommandContext& context) { return doctor(*json, context); }); });
}

}  // namespace eep
