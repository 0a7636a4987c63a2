// --device simt: the whole program through the CUDA row, whose kernels run on the host.
#include <doctest/doctest.h>

#include <string>

#include "loaders/json.h"
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

TEST_CASE("device: doctor says what is built in and what no GPU has run") {
  const Json json = parse_json(eep::test::eep({"doctor", "--json", "--device", "simt"}).out, "doctor");
  CHECK(json.contains("cuda_built"));
  CHECK(json.at("unconfirmed").get<std::string>().find("every CUDA kernel") != std::string::npos);
  const Outcome text = eep::test::eep({"doctor"});
  CHECK(text.code == 0);
  CHECK(text.out.find("unconfirmed") != std::string::npos);
  CHECK(text.out.find("EEP_CUDA_UNCONFIRMED=wgmma: expert_ffn") != std::string::npos);
}

TEST_CASE("device: an unconfirmed path is chosen by its name alone") {
  ::setenv("EEP_CUDA_UNCONFIRMED", "wgmma", 1);
  const Outcome chosen = eep::test::eep({"doctor"});
  ::setenv("EEP_CUDA_UNCONFIRMED", "wgmma,wmma", 1);
  const Outcome unknown = eep::test::eep({"doctor"});
  ::unsetenv("EEP_CUDA_UNCONFIRMED");
  CHECK(chosen.out.find("EEP_CUDA_UNCONFIRMED=wgmma (chosen): expert_ffn") != std::string::npos);
  CHECK(unknown.code == 78);
  CHECK(unknown.err.find("EEP_CUDA_UNCONFIRMED: unknown path (expected one of wgmma, got wmma)") !=
        std::string::npos);
}
