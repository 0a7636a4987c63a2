// A model of twice the memory that a run may use: the bytes of a run without a limit, in a process that gets
// no more.
#include <doctest/doctest.h>

#include <cstdint>

#include "tests/experiments/small_run.h"
#include "tests/experiments/sparse_model.h"

using namespace eep;
using namespace eep::test;

namespace {

// The demo's tokenizer, and weights of some 100 MB about zero: bf16 numbers of either sign in 1/32 .. 1/8.
std::string write_model(const TempDir& directory) {
  SparseModel model;
  model.vocab_size = 256;
  model.hidden_size = 256;
  model.intermediate_size = 1024;
  model.num_layers = 16;
  model.num_experts = 4;
  const Json demo = parse_json(slurp(kDemoModel + "/config.json"), "config.json");
  model.vocab_size = demo.at("vocab_size").get<int64_t>();
  REQUIRE(model.write(directory, "model"));
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
    std::filesystem::copy_file(kDemoModel + "/" + name, directory(std::string("model/") + name));
  const std::string path = directory("model/model.safetensors");
  const auto size = std::filesystem::file_size(path);
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  uint64_t header = 0;
  file.read(reinterpret_cast<char*>(&header), sizeof header);
  file.seekp(static_cast<std::streamoff>(sizeof header + header));
  std::vector<uint16_t> numbers((size - sizeof header - header) / 2);
  uint64_t state = 1;
  for (uint16_t& number : numbers) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const auto bits = static_cast<uint16_t>(state >> 48);
    number = static_cast<uint16_t>((bits & 0x8000u) | 0x3d00u | (bits & 0xffu));
  }
  file.write(reinterpret_cast<const char*>(numbers.data()), static_cast<std::streamsize>(2 * numbers.size()));
  REQUIRE(file.good());
  return directory("model");
}

}  // namespace

TEST_CASE(
    "memory: a model of twice the permitted memory is calibrated, searched and evaluated to the same bytes") {
  TempDir directory;
  write_model(directory);
  const std::string file =
      directory.write("large.yaml", "name: large\nmodel: {path: " + directory("model") + "}\n" + R"(
task: {name: sort, train: {limit: 4}, dev: {limit: 4}, test: {limit: 4}}
plan: {experts: 2, groups: 2}
search:
  population: 3
  prune: {evaluations: 6, initial: 3}
  merge: {evaluations: 6}
baselines: [full, frequency, naee]
)");
  const auto run = [&](const std::string& name, const std::vector<std::string>& more,
                       const RunLimits& limits) {
    std::vector<std::string> words{"run", file, "--output", directory(name), "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return eep::test::eep(words, limits);
  };
  const Outcome free = run("free", {}, {});
  CAPTURE(free.err);
  REQUIRE(free.code == 0);
  // Private memory: views of files do not count, as the system takes their pages back. What the program has
  // beside its plan: libraries' data, the tokenizer, the files that it writes.
  constexpr rlim_t kPermitted = 50'000'000, kProgram = 30'000'000;
  RunLimits limits;
  limits.private_memory = kPermitted + kProgram;
  const Outcome refused = run("refused", {}, limits);
  CHECK(refused.code == 1);
  CHECK(refused.err.find("memory") != std::string::npos);
  const Outcome little = run("little", {"--memory", std::to_string(kPermitted)}, limits);
  CAPTURE(little.err);
  REQUIRE(little.code == 0);
  CHECK(run_bytes(directory("little")) == run_bytes(directory("free")));
  CHECK(slurp(directory("little/log.txt")).find("layers streamed from") != std::string::npos);
}
