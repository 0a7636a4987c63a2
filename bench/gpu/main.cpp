// bench_device: the ops of a backend at the shapes of released models, B1 to B6, beside ceilings measured in
// the same run.
//
//   bench_device [--device cuda|cpu|simt] [--filter TEXT]... [--seconds S] [--csv FILE] [--markdown FILE]
//                [--tiny] [--threads N] [--list]
//
// --filter keeps cases whose "id op shape" contains the text; several are gone through in their order.
// --seconds: of samples a case. --csv: a row is appended as it is measured; ceilings that the file holds are
// not measured again.
// --list: names of the cases, none is run. bench_model has B7 to B9.
#include <cstdlib>
#include <iostream>

#include "bench/gpu/device_bench.h"
#include "kernels/common/error.h"

namespace {

int usage(const std::string& what) {
  std::cerr << what
            << "\nusage: bench_device [--device cuda|cpu|simt] [--filter TEXT]... [--seconds S] [--csv FILE] "
               "[--markdown FILE] [--tiny] [--threads N] [--list]\n";
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  eep::bench::BenchOptions options;
  std::vector<std::string> filters;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--tiny" || option == "--list") {
      (option == "--tiny" ? options.tiny : options.list) = true;
      continue;
    }
    if (i + 1 == argc) return usage("unknown option or missing value: " + option);
    const std::string value = argv[++i];
    if (option == "--device")
      options.device = value;
    else if (option == "--filter")
      filters.push_back(value);
    else if (option == "--seconds")
      options.seconds = std::atof(value.c_str());
    else if (option == "--csv")
      options.csv = value;
    else if (option == "--markdown")
      options.markdown = value;
    else if (option == "--threads")
      options.threads = std::max(1, std::atoi(value.c_str()));
    else
      return usage("unknown option: " + option);
  }
  if (!filters.empty()) options.filters = filters;
  try {
    eep::bench::DeviceBench bench(options);
    bench.run_filters([&bench] {
      eep::bench::bench_merge(bench);
      eep::bench::bench_products(bench);
      eep::bench::bench_experts(bench);
      eep::bench::bench_mixture(bench);
      eep::bench::bench_routing(bench);
      eep::bench::bench_attention(bench);
    });
    return options.list ? 0 : bench.finish();
  } catch (const eep::Error& error) {
    std::cerr << "bench_device: " << error.what() << "\n";
    return static_cast<int>(error.code());
  }
}
