// --device simt: the whole program through the CUDA row, whose kernels run on the host.
#include <doctest/doctest.h>

#include <string>

#include "loaders/formats/json.h"
#include "tests/experiments/process.h"

using namespace eep;
using eep::test::Outcome;

namespace {

const std::string kDemoModel = std::string(EEP_SOURCE_DIR) + "/experiments/demo/mixtral";

}  // namespace

TEST_CASE("device: the demo model continues prompts on the CUDA row as on the CPU") {
  for (const char* ids : {"1 5 9 12", "7 3 40", "100"}) {
    CAPTURE(ids);
    const Outcome cpu =
        eep::test::eep({"generate", kDemoModel, "--ids", ids, "--max-new", "3", "--device", "cpu"});
    const Outcome simt =
        eep::test::eep({"generate", kDemoModel, "--ids", ids, "--max-new", "3", "--device", "simt"});
    REQUIRE(cpu.code == 0);
    CHECK(simt.code == 0);
    CHECK(simt.out == cpu.out);
  }
}

TEST_CASE("device: f32 weights run as bf16 there, and the program says so once") {
  const std::vector<std::string> command = {
      "generate", eep::test::kGoldenModel, "--ids", "1 5 9", "--max-new", "2", "--print-ids", "--device"};
  const auto on = [&](const char* device) {
    std::vector<std::string> arguments = command;
    arguments.push_back(device);
    return eep::test::eep(arguments);
  };
  const Outcome simt = on("simt"), cpu = on("cpu");
  REQUIRE(simt.code == 0);
  const std::string note = "F32 weights run as BF16 with --device simt";
  const size_t at = simt.err.find(note);
  CHECK(at != std::string::npos);
  CHECK(simt.err.find(note, at + 1) == std::string::npos);
  CHECK(cpu.err.find("weights run as") == std::string::npos);
}

TEST_CASE("device: weights beyond the limit are streamed, and nothing else changes") {
  const std::string model = kDemoModel;
  const auto planned = [&](const std::string& memory) {
    const Outcome outcome =
        eep::test::eep({"inspect", model, "--json", "--device", "simt", "--memory", memory});
    REQUIRE(outcome.code == 0);
    return parse_json(outcome.out, "inspect").at("memory").at("cuda");
  };
  const Json whole = planned("8G");
  CHECK(whole.at("streamed_layers").get<int64_t>() == 0);
  // The least limit names itself.
  const Outcome refused = eep::test::eep(
      {"logits", model, "--ids", "1 5", "--out", "unused", "--device", "simt", "--memory", "1000"});
  CHECK(refused.code == 1);
  const std::string expected = "expected at least ";
  const size_t at = refused.err.find(expected);
  REQUIRE(at != std::string::npos);
  const size_t least = std::stoull(refused.err.substr(at + expected.size()));
  const std::string limit = std::to_string(least + least * 3 / 4);
  const Json tight = planned(limit);
  CHECK(tight.at("streamed_layers").get<int64_t>() > 0);
  CHECK(tight.at("weights").get<int64_t>() < whole.at("weights").get<int64_t>());

  eep::test::TempDir scratch;
  std::vector<std::string> files, texts;
  for (const std::string& memory : {std::string("8G"), limit}) {
    files.push_back(scratch(memory));
    const Outcome logits = eep::test::eep({"logits", model, "--ids", "1 5 9 12 7", "--out", files.back(),
                                           "--device", "simt", "--memory", memory});
    CHECK(logits.code == 0);
    const Outcome text = eep::test::eep(
        {"generate", model, "--ids", "7 3 40", "--max-new", "3", "--device", "simt", "--memory", memory});
    CHECK(text.code == 0);
    texts.push_back(text.out);
  }
  CHECK(eep::test::slurp(files[0]) == eep::test::slurp(files[1]));
  CHECK(texts[0] == texts[1]);
}

TEST_CASE("device: a search on streamed weights is the search on resident ones; a run changes its device") {
  eep::test::TempDir scratch;
  const std::string file =
      scratch.write("small.yaml", "name: small\nseed: 5\nmodel: {path: " + kDemoModel +
                                      "}\n"
                                      "task: {name: sort, train: {split: train, limit: 2}, "
                                      "dev: {split: dev, limit: 1}, test: {split: test, "
                                      "limit: 1}}\n"
                                      "plan: {experts: 4, groups: per_layer}\n"
                                      "search: {population: 2, dev_count: 1, prune: "
                                      "{evaluations: 2}, merge: {evaluations: 3}}\n"
                                      "baselines: [full]\n");
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"run", file};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return eep::test::eep(arguments);
  };
  const std::string whole = scratch("whole"), tight = scratch("tight"), moved = scratch("moved");
  CHECK(run({"--device", "simt", "--output", whole}).code == 0);
  const Outcome streamed = run({"--device", "simt", "--memory", "4150k", "--output", tight});
  CHECK(streamed.code == 0);
  CHECK(streamed.err.find("layers streamed from") != std::string::npos);
  const std::string archive = eep::test::slurp(whole + "/archive.jsonl");
  CHECK(archive.size() > 0);
  CHECK(eep::test::slurp(tight + "/archive.jsonl") == archive);
  const Json result = parse_json(eep::test::slurp(tight + "/result.json"), "result");
  CHECK(result.at("device") == "simt");
  CHECK(result.at("weights") == "BF16");

  // What the CPU's search left behind is finished on the other device.
  CHECK(run({"--device", "cpu", "--output", moved}).code == 0);
  const std::string before = eep::test::slurp(moved + "/archive.jsonl");
  std::filesystem::remove(moved + "/result.json");
  CHECK(eep::test::eep({"run", "--resume", moved, "--device", "simt"}).code == 0);
  CHECK(eep::test::slurp(moved + "/archive.jsonl") == before);
  CHECK(parse_json(eep::test::slurp(moved + "/result.json"), "result").at("device") == "simt");

  // A run does not change to another path on the way, which may give other bits.
  ::setenv("EEP_CUDA_PATH", "wgmma", 1);
  const Outcome mixed = eep::test::eep({"run", "--resume", whole, "--device", "simt"});
  ::unsetenv("EEP_CUDA_PATH");
  CHECK(mixed.code == 65);
  CHECK(mixed.err.find("EEP_CUDA_PATH has changed (expected auto, got wgmma)") != std::string::npos);
}

TEST_CASE("device: taps show that the demo model's layers agree, or where they part") {
  eep::test::TempDir scratch;
  const std::string taps = scratch("cpu.safetensors");
  const Outcome made =
      eep::test::eep({"logits", kDemoModel, "--ids", "1 5 9 12", "--taps", taps, "--device", "cpu"});
  REQUIRE(made.code == 0);
  const auto compare = [&](const std::string& ids, const char* device) {
    return eep::test::eep({"logits", kDemoModel, "--ids", ids, "--taps-against", taps, "--device", device});
  };
  const Outcome same = compare("1 5 9 12", "simt");
  CHECK(same.code == 0);
  CHECK(same.out.find("layer.0.router.logits") != std::string::npos);
  CHECK(same.out.find("no difference beyond rounding\n") != std::string::npos);
  const Outcome other = compare("1 5 9 13", "simt");
  CHECK(other.code == 1);
  CHECK(other.out.find("first difference: embedding\n") != std::string::npos);
  const Outcome longer = compare("1 5 9 12 7", "cpu");
  CHECK(longer.code == 65);
  CHECK(longer.error_lines() <= 2);
  CHECK(eep::test::eep({"logits", kDemoModel, "--ids", "1 5"}).code == 2);
}

TEST_CASE("device: doctor says what is built in and which GPU has run it") {
  const Json json = parse_json(eep::test::eep({"doctor", "--json", "--device", "simt"}).out, "doctor");
  CHECK(json.contains("cuda_built"));
  CHECK(json.at("kernel_path") == "auto");
  CHECK(json.at("cuda_confirmed").get<std::string>().find("H100") != std::string::npos);
  const Outcome text = eep::test::eep({"doctor"});
  CHECK(text.code == 0);
  CHECK(text.out.find("EEP_CUDA_PATH=auto (auto: wgmma on compute capability 9.0, else mma)") !=
        std::string::npos);
}

TEST_CASE("device: the path of products is chosen by its name") {
  const std::vector<std::string> generate = {"generate",  kDemoModel, "--ids",   "7 3 40",
                                             "--max-new", "2",        "--device"};
  const auto on = [&](const char* device) {
    std::vector<std::string> command = generate;
    command.push_back(device);
    return eep::test::eep(command);
  };
  const Outcome cpu = on("cpu");
  ::setenv("EEP_CUDA_PATH", "wgmma", 1);
  const Outcome chosen = eep::test::eep({"doctor"}), simt = on("simt");
  ::setenv("EEP_CUDA_PATH", "wmma", 1);
  const Outcome unknown = eep::test::eep({"doctor"});
  ::unsetenv("EEP_CUDA_PATH");
  CHECK(chosen.out.find("EEP_CUDA_PATH=wgmma (auto: ") != std::string::npos);
  CHECK(simt.code == 0);
  CHECK(simt.out == cpu.out);
  CHECK(unknown.code == 78);
  CHECK(unknown.err.find("EEP_CUDA_PATH: unknown path (expected one of auto, mma, wgmma, got wmma)") !=
        std::string::npos);
}
