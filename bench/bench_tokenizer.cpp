// Tokenizer::encode on one thread: bench_tokenizer MODEL FILE [--seconds S]. The file holds documents, one
// after each NUL. Prints one JSON object: bytes, tokens, and the median over passes of the thread's seconds,
// so that other jobs on the machine do not count as time. bench/peers/tokenizer_rates.py compares.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "bench/sampling.h"
#include "kernels/common/error.h"
#include "loaders/formats/file.h"
#include "loaders/text/tokenizer.h"

namespace {

int run(const std::string& model, const std::string& file, double seconds) {
  const eep::Tokenizer tokenizer = eep::Tokenizer::load(model);
  const std::string text = eep::read_file(file);
  std::vector<std::string_view> documents;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\0', begin), text.size());
    documents.push_back(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
  }
  std::vector<double> passes;
  size_t tokens = 0;
  for (double total = 0; total < seconds || passes.size() < 3;) {
    tokens = 0;
    const double start = eep::bench::thread_seconds();
    for (std::string_view document : documents) tokens += tokenizer.encode(document, false).size();
    passes.push_back(eep::bench::thread_seconds() - start);
    total += passes.back();
  }
  std::nth_element(passes.begin(), passes.begin() + static_cast<int64_t>(passes.size() / 2), passes.end());
  fmt::print("{{\"documents\": {}, \"bytes\": {}, \"tokens\": {}, \"passes\": {}, \"seconds\": {:.6g}}}\n",
             documents.size(), text.size(), tokens, passes.size(), passes[passes.size() / 2]);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3 && !(argc == 5 && std::string(argv[3]) == "--seconds")) {
    std::fputs("usage: bench_tokenizer MODEL FILE [--seconds S]\n", stderr);
    return 2;
  }
  try {
    return run(argv[1], argv[2], argc == 5 ? std::atof(argv[4]) : 1.0);
  } catch (const eep::Error& error) {
    std::fprintf(stderr, "bench_tokenizer: %s\n", error.what());
    return static_cast<int>(error.code());
  }
}
