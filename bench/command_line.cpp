#include "bench/command_line.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdlib>
#include <iostream>

namespace eep::bench {
namespace {

// Not inf, nan, or what C takes for a number.
std::string check_seconds(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool number = !text.empty() && *end == '\0' && text.find_first_not_of("0123456789.") == text.npos;
  return number && value <= 86400 ? "" : "not a number of seconds (expected 0..86400, got " + text + ")";
}

std::string check_name(const std::string& text) { return text.empty() ? "an empty name" : ""; }

}  // namespace

std::optional<int> parsed(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    std::cerr << app.get_name() << ": " << error.what() << " (see --help)\n";
    return 2;
  }
  return std::nullopt;
}

void add_options(CLI::App& app, BenchOptions& options) {
  app.add_option("--filter", options.filters,
                 "cases whose \"id op shape\" has the text in it; several are gone through in their order")
      ->allow_extra_args(false);
  app.add_option("--samples", options.sampling.samples,
                 "of a case at least (default: 21 on the CPU; on a GPU 5, and 20 at most)")
      ->check(CLI::Range(1, 1000000));
  app.add_option("--seconds", options.sampling.seconds,
                 "of samples of a case at least (default: 0.5 on the CPU, 0.3 on a GPU)")
      ->check(check_seconds);
  app.add_option("--threads", options.threads, "of the CPU (default: 1)")->check(CLI::Range(1, 4096));
  app.add_option("--cpu-target", options.cpu_target, "instruction set of the CPU kernels (see eep doctor)");
  app.add_flag("--hot", options.sampling.hot, "many calls in a row, with what they read in the caches");
  app.add_option("--csv", options.csv,
                 "a row is appended as it is measured; ceilings that the file holds are not measured again")
      ->check(check_name);
  app.add_option("--markdown", options.markdown, "the table that is printed, as a file")->check(check_name);
  app.add_option("--compare", options.compare,
                 "a CSV file of an earlier run: cases slower by more than the noise of both FAIL, and the "
                 "program ends with 1")
      ->check(CLI::ExistingFile);
  app.add_flag("--list", options.list, "names of the cases, none is run");
}

void add_device_options(CLI::App& app, BenchOptions& options) {
  app.add_option("--device", options.device, "cpu, cuda, cuda:N or simt (default: cpu)")->check(check_name);
  app.add_flag("--tiny", options.tiny, "small extents, one sample: the code runs, times mean nothing");
}

}  // namespace eep::bench
