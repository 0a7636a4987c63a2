// The command line of the benchmarks (CLI11).
#pragma once

#include <optional>

#include "bench/harness.h"

namespace CLI {
class App;
}

namespace eep::bench {

// Reads the command line. What main() returns at once: 0 after --help, 2 after a value that makes no sense,
// of which one line is on stderr; none: go on.
std::optional<int> parsed(CLI::App& app, int argc, char** argv);

// The options of what times calls; what they are bound to outlives the parsing.
void add_options(CLI::App& app, BenchOptions& options);
// --device and --tiny, of benchmarks that run on every backend.
void add_device_options(CLI::App& app, BenchOptions& options);

}  // namespace eep::bench
