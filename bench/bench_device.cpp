// bench_device: the ops of a backend: B1 to B6 at the shapes of released models, C at those of the demo
// models and of single experts (ops/ops.h), beside ceilings measured in the same run.
//
//   bench_device [--device cpu|cuda|simt] [--filter TEXT]... [--samples N] [--seconds S] [--threads N]
//                [--cpu-target NAME] [--hot] [--csv FILE] [--markdown FILE] [--compare FILE] [--tiny] [--list]
//
// bench_model has B7 to B9.
#include <CLI/CLI.hpp>
#include <iostream>

#include "bench/command_line.h"
#include "bench/ops/ops.h"
#include "kernels/common/error.h"

int main(int argc, char** argv) {
  eep::bench::BenchOptions options;
  CLI::App app{"ops of a backend, at the shapes of released models (B1 to B6) and of small ones (C)",
               "bench_device"};
  eep::bench::add_device_options(app, options);
  eep::bench::add_options(app, options);
  if (const auto status = eep::bench::parsed(app, argc, argv)) return *status;
  try {
    eep::bench::Bench bench(options);
    bench.run_filters([&bench] { eep::bench::bench_ops(bench); });
    return bench.finish();
  } catch (const eep::Error& error) {
    std::cerr << "bench_device: " << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}
