// The commands from outside: what they print, and every kind of bad input as one line with its exit code.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "loaders/formats/json.h"
#include "loaders/formats/safetensors.h"
#include "tests/experiments/process.h"

using namespace eep;
using namespace eep::test;

namespace {

// And nothing on stdout.
void check_refused(const Outcome& outcome, int code, const std::string& what) {
  check_one_error(outcome, code, what);
  CHECK(outcome.out.empty());
}

}  // namespace

TEST_CASE("program: help, version and wrong usage") {
  CHECK(eep::test::eep({"--help"}).code == 0);
  CHECK(eep::test::eep({"--version"}).out.find("eep 0.") == 0);
  for (const char* command :
       {"inspect", "doctor", "tokenize", "logits", "generate", "eval", "calibrate", "select", "run"}) {
    const Outcome outcome = eep::test::eep({command, "--help"});
    CHECK(outcome.code == 0);
    CHECK(outcome.out.find(std::string("Example: eep ") + command) != std::string::npos);
  }
  check_refused(eep::test::eep({}), 2, "subcommand");
  check_refused(eep::test::eep({"prune"}), 2, "usage");
  check_refused(eep::test::eep({"inspect"}), 2, "MODEL");
  check_refused(eep::test::eep({"inspect", kGoldenModel, "--bogus"}), 2, "--bogus");
  check_refused(eep::test::eep({"doctor", "--threads", "none"}), 2, "--threads");
  check_refused(eep::test::eep({"doctor", "--memory", "much"}), 2, "--memory");
  check_refused(eep::test::eep({"doctor", "--device", "tpu"}), 2, "--device");
  check_refused(eep::test::eep({"doctor", "--device", "cuda"}), 1, "--device cuda: ");
}

TEST_CASE("program: inspect and doctor speak JSON") {
  const Json inspect = parse_json(eep::test::eep({"inspect", kGoldenModel, "--json"}).out, "inspect");
  CHECK(inspect.at("family") == "mixtral");
  CHECK(inspect.at("parameters").at("total").get<int64_t>() >
        inspect.at("parameters").at("active").get<int64_t>());
  CHECK(inspect.at("memory").at("cuda_search").at("block_rows") == 32768);
  const Json doctor = parse_json(eep::test::eep({"doctor", "--json"}).out, "doctor");
  CHECK(doctor.at("cpu").at("targets").size() >= 1);
  CHECK(doctor.at("disabled").at("cuda").is_string());
  check_refused(eep::test::eep({"inspect", "/nowhere/model"}), 66, "/nowhere/model");
}

TEST_CASE("doctor: a model that can be used has commands to run next, another one a reason") {
  const Json known = parse_json(eep::test::eep({"doctor", kDemoModel, "--json"}).out, "doctor").at("model");
  CHECK(known.at("supported") == true);
  CHECK(known.at("family") == "mixtral");
  CHECK(known.at("next").size() == 4);
  CHECK(eep::test::eep({"doctor", kDemoModel}).out.find("eep init ") != std::string::npos);
  TempDir directory;
  directory.write("config.json", R"({"model_type": "mamba2", "architectures": ["Mamba2ForCausalLM"]})");
  const Outcome other = eep::test::eep({"doctor", directory("."), "--json"});
  CHECK(other.code == 0);
  const Json unknown = parse_json(other.out, "doctor").at("model");
  CHECK(unknown.at("supported") == false);
  CHECK(unknown.at("reason").get<std::string>().find("mamba2") != std::string::npos);
  check_refused(eep::test::eep({"doctor", "/nowhere/model"}), 66, "/nowhere/model");
}

#ifdef _OPENMP
TEST_CASE("program: threads that wait spin briefly, unless somebody has chosen") {
  const auto waiting = [] {
    return parse_json(eep::test::eep({"doctor", "--json"}).out, "doctor")
        .at("cpu")
        .at("waiting")
        .get<std::string>();
  };
  const char* const inherited = std::getenv("OMP_WAIT_POLICY");
  const std::string before = inherited != nullptr ? inherited : "";
  ::unsetenv("OMP_WAIT_POLICY");
  CHECK(waiting() == "GOMP_SPINCOUNT=1000");
  ::setenv("GOMP_SPINCOUNT", "7", 1);
  CHECK(waiting() == "GOMP_SPINCOUNT=7");
  ::unsetenv("GOMP_SPINCOUNT");
  ::setenv("OMP_WAIT_POLICY", "active", 1);
  CHECK(waiting() == "OMP_WAIT_POLICY=active");
  ::unsetenv("OMP_WAIT_POLICY");
  if (inherited != nullptr) ::setenv("OMP_WAIT_POLICY", before.c_str(), 1);
}
#endif

TEST_CASE("program: logits and generate need no tokenizer with ids") {
  TempDir directory;
  const std::string out = directory("logits.safetensors");
  const std::string lists = directory.write("ids.json", "[[1, 2, 3], [4]]");
  CHECK(eep::test::eep({"logits", kGoldenModel, "--ids-file", lists, "--out", out}).code == 0);
  const SafetensorsFile file(out);
  REQUIRE(file.find("logits.1") != nullptr);
  CHECK(file.find("logits.0")->shape[0] == 3);
  CHECK(file.find("logits.1")->shape[0] == 1);
  const Outcome made = eep::test::eep(
      {"generate", kGoldenModel, "--ids", "1 2 3", "--max-new", "5", "--ignore-eos", "--print-ids"});
  CHECK(parse_json(made.out, "ids").size() == 5);
  check_refused(eep::test::eep({"logits", kGoldenModel, "--ids", "1 99999", "--out", directory("x")}), 65,
                "outside the vocabulary");
  CHECK(!std::filesystem::exists(directory("x")));
  check_refused(eep::test::eep({"logits", kGoldenModel, "--ids", "1 two", "--out", directory("x")}), 2,
                "not a token id");
  check_refused(eep::test::eep({"logits", kGoldenModel, "--ids-file", directory.write("bad.json", "[[1, 2]"),
                                "--out", directory("x")}),
                65, "bad.json:1:");
  check_refused(eep::test::eep({"logits", kGoldenModel, "--text", "a", "--out", directory("x")}), 66,
                "tokenizer");
  check_refused(eep::test::eep({"logits", kGoldenModel, "--ids", "1", "--out", directory("none/x")}), 74,
                "none/x");
  RunLimits full_disk;
  full_disk.file_size = 256;  // room for the message, not for the logits
  check_refused(
      eep::test::eep({"logits", kGoldenModel, "--ids", "1 2 3", "--out", directory("y")}, full_disk), 74,
      "y");
  CHECK(!std::filesystem::exists(directory("y")));
  check_refused(
      eep::test::eep({"logits", kGoldenModel, "--ids", "1", "--out", directory("x"), "--memory", "1k"}), 1,
      "memory");
}

TEST_CASE("program: parity hf rounds a 16-bit model's router, and only that") {
  TempDir directory;
  const auto taps = [&](const std::string& model, const std::string& parity, const std::string& name) {
    const std::string out = directory(name);
    const Outcome made = eep::test::eep({"logits", kSource + "/tests/golden/" + model, "--ids", "1 5 9 2",
                                         "--parity", parity, "--taps", out});
    CAPTURE(made.err);
    REQUIRE(made.code == 0);
    return slurp(out);
  };
  CHECK(taps("mixtral_bf16", "none", "a") != taps("mixtral_bf16", "hf", "b"));
  CHECK(taps("mixtral_f32", "none", "c") == taps("mixtral_f32", "hf", "d"));
  const SafetensorsFile rounded(directory("b"));
  const SafetensorsEntry* logits = nullptr;
  for (const SafetensorsEntry& entry : rounded.header.entries) {
    if (entry.name.find("router.logits") != std::string::npos) logits = &entry;
  }
  REQUIRE(logits != nullptr);
  std::vector<uint32_t> bits(logits->bytes / sizeof(uint32_t));
  std::memcpy(bits.data(), rounded.data(*logits), logits->bytes);
  REQUIRE(!bits.empty());
  for (const uint32_t value : bits) CHECK((value & 0xffffu) == 0);
}

TEST_CASE("program: parity eep is parity hf, and other merged experts") {
  TempDir directory;
  const auto logits = [&](const std::string& plan, const std::string& parity) {
    const std::string model = kSource + "/tests/golden/mixtral_bf16", out = directory(plan + parity);
    const Outcome made = eep::test::eep({"logits", model, "--ids", "1 5 9 2", "--parity", parity, "--plan",
                                         model + "/plans/" + plan + ".json", "--out", out});
    CAPTURE(made.err);
    REQUIRE(made.code == 0);
    return slurp(out);
  };
  CHECK(logits("one_hot_logits", "eep") == logits("one_hot_logits", "hf"));
  CHECK(logits("dense_logits", "eep") != logits("dense_logits", "hf"));

  // An export under the mode holds those experts.
  const std::string model = kSource + "/tests/golden/mixtral_bf16", plan = model + "/plans/dense_logits.json";
  const std::string out = directory("exported");
  REQUIRE(eep::test::eep({"export", model, "--plan", plan, "--out", out, "--parity", "eep"}).code == 0);
  const auto verified = [&](const std::string& parity) {
    return eep::test::eep({"verify", out, "--against", model, "--plan", plan, "--parity", parity}).code;
  };
  CHECK(verified("eep") == 0);
  CHECK(verified("none") == 65);
}

TEST_CASE("program: every command that loads a model takes a precision") {
  TempDir directory;
  const std::string model = kSource + "/tests/golden/mixtral_f32";
  const auto logits = [&](const std::string& name, const std::string& precision) {
    const std::string out = directory(name);
    const Outcome made =
        eep::test::eep({"logits", model, "--ids", "1 5 9 2", "--precision", precision, "--out", out});
    CAPTURE(made.err);
    REQUIRE(made.code == 0);
    const bool said = made.err.find("F32 weights run as BF16 with --precision bf16") != std::string::npos;
    CHECK(said == (precision == "bf16"));
    return slurp(out);
  };
  CHECK(logits("a", "f32") != logits("b", "bf16"));
  CHECK(eep::test::eep(
            {"generate", model, "--ids", "1 5", "--max-new", "3", "--print-ids", "--precision", "bf16"})
            .code == 0);
  check_refused(
      eep::test::eep({"logits", model, "--ids", "1", "--precision", "f16", "--out", directory("c")}), 2,
      "--precision");
  check_refused(eep::test::eep({"logits", model, "--ids", "1", "--precision", "bf16", "--device", "simt",
                                "--out", directory("d")}),
                78, "--precision");
  const Outcome doctor = eep::test::eep({"doctor", "--json"});
  REQUIRE(doctor.code == 0);
  CHECK(parse_json(doctor.out, "doctor").at("disabled").contains("amx"));
}

TEST_CASE("program: a damaged checkpoint or plan is refused by name") {
  TempDir directory;
  std::filesystem::create_directories(directory("m"));
  std::filesystem::copy(
      kGoldenModel, directory("m"),
      std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  const std::string weights = directory("m/model.safetensors");
  if (std::filesystem::exists(weights)) {
    std::filesystem::resize_file(weights, std::filesystem::file_size(weights) - 10);
    check_refused(eep::test::eep({"inspect", directory("m")}), 65, "model.safetensors");
    std::filesystem::remove(weights);
    check_refused(eep::test::eep({"inspect", directory("m")}), 66, "safetensors");
  }
  const std::string plan = slurp(kGoldenModel + "/plans/one_hot_logits.json");
  const auto with = [&](const std::string& name, const std::string& from, const std::string& to) {
    std::string text = plan;
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
    return eep::test::eep({"logits", kGoldenModel, "--ids", "1 2", "--out", directory("z"), "--plan",
                           directory.write(name, text)});
  };
  check_refused(with("v.json", "\"version\": 1", "\"version\": 7"), 65, "version");
  check_refused(with("f.json", "eep-plan", "other"), 65, "format");
  check_refused(eep::test::eep({"logits", kGoldenModel, "--ids", "1", "--out", directory("z"), "--plan",
                                directory("none.json")}),
                66, "none.json");
}

TEST_CASE("program: bad experiments and tasks are exit 78, 66 or 65 with the place") {
  TempDir directory;
  const std::string head = "model: {path: " + kDemoModel + "}\ntask: {name: sort}\n";
  const auto run = [&](const std::string& text) {
    return eep::test::eep({"run", directory.write("e.yaml", text), "--output", directory("out")});
  };
  check_refused(run(head + "plan: {experts: 4}\nsead: 1\n"), 78, "e.yaml:4:1: unknown key sead");
  check_refused(run(head + "plan: {experts: 4}\nseed: 1\nseed: 2\n"), 78, "duplicate key seed");
  check_refused(run(head + "plan: {experts: many}\n"), 78, "plan.experts");
  check_refused(run(head + "plan: {experts: &a [*a]}\n"), 78, "e.yaml:3:");
  check_refused(run("task: {name: sort}\nplan: {experts: 4}\n"), 78, "model.path is missing");
  check_refused(run("model: {path: /nowhere}\ntask: {name: sort}\nplan: {experts: 4}\n"), 66, "/nowhere");
  check_refused(run("model: {path: m}\ntask: {name: unknown_task}\nplan: {experts: 4}\n"), 66,
                "unknown_task");
  check_refused(eep::test::eep({"run", directory("missing.yaml")}), 66, "missing.yaml");
  const auto task = [&](const std::string& text, const std::string& data) {
    directory.write("d.jsonl", data);
    return eep::test::eep({"eval", kDemoModel, "--task", directory.write("t.yaml", text), "--split", "test"});
  };
  const std::string good =
      "name: t\nkind: generate\ndata: {test: d.jsonl}\nprompt: \"{q}\"\ntarget: a\nmetric: exact_match\n";
  check_refused(task(good, ""), 65, "d.jsonl");
  check_refused(task(good, "{\"q\": \"x\"}\n"), 65, "d.jsonl:1: field a is missing");
  check_refused(task(good, "{\"q\": \"x\", \"a\": \"b\"\n"), 65, "d.jsonl:1:");
  check_refused(task(good + "colour: red\n", "{}\n"), 65, "colour");
  check_refused(task("name: t\n", "{}\n"), 65, "missing");
  check_refused(eep::test::eep({"eval", kDemoModel, "--task", "sort", "--split", "final"}), 2,
                "no such split");
}
