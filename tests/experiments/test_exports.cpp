// Exports, verification, imports and conversions from outside.
#include <doctest/doctest.h>

#include "loaders/formats/json.h"
#include "loaders/formats/safetensors.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/plan_io.h"
#include "tests/experiments/process.h"
#include "tests/experiments/sparse_model.h"
#include "tests/loaders/gguf_writer.h"

using namespace eep;
using namespace eep::test;

namespace {

const std::string kPlans = kGoldenModel + "/plans/";

std::string logits_bytes(const std::string& path, const char* name) {
  const SafetensorsFile file(path);
  const SafetensorsEntry* entry = file.find(name);
  REQUIRE(entry != nullptr);
  return std::string(reinterpret_cast<const char*>(file.data(*entry)), entry->bytes);
}

}  // namespace

TEST_CASE("program: an export verifies against its source, a damaged one does not") {
  TempDir directory;
  const std::string out = directory("out");
  const Outcome made =
      eep::test::eep({"export", kGoldenModel, "--plan", kPlans + "one_hot_logits.json", "--out", out});
  CAPTURE(made.err);
  REQUIRE(made.code == 0);
  CHECK(made.out == out + "\n");
  const Outcome verified = eep::test::eep({"verify", out, "--against", kGoldenModel});
  CAPTURE(verified.out);
  CHECK(verified.code == 0);
  CHECK(verified.out.find("equal to the bit") != std::string::npos);
  CHECK(verified.out.find("FAILED") == std::string::npos);
  const Json report = parse_json(eep::test::eep({"verify", out, "--json"}).out, "report");
  CHECK(report.at("passed") == true);

  const Outcome again =
      eep::test::eep({"export", kGoldenModel, "--plan", kPlans + "one_hot_logits.json", "--out", out});
  CHECK(again.code == 2);
  CHECK(again.err.find("not empty") != std::string::npos);

  directory.write("out/model-00007-of-00009.safetensors", "stale");
  const Outcome stale = eep::test::eep({"verify", out});
  CHECK(stale.code == 65);
  CHECK(stale.err.find("stale file") != std::string::npos);
  std::filesystem::remove(directory("out/model-00007-of-00009.safetensors"));

  std::string weights = slurp(out + "/model.safetensors");
  weights[weights.size() - 3] = static_cast<char>(weights[weights.size() - 3] ^ 1);
  directory.write("out/model.safetensors", weights);
  const Outcome changed = eep::test::eep({"verify", out, "--against", kGoldenModel, "--no-logits"});
  CHECK(changed.code == 65);
  CHECK(changed.err.find("bytes differ") != std::string::npos);

  std::string config = slurp(out + "/config.json");
  const size_t at = config.find("\"num_experts_per_tok\": ");
  REQUIRE(at != std::string::npos);
  config[at + 23] = '1';
  directory.write("out/config.json", config);
  CHECK(eep::test::eep({"verify", out}).err.find("num_experts_per_tok") != std::string::npos);
}

TEST_CASE("program: a plan that changes nothing is told, also where experts only change their places") {
  TempDir directory;
  ExpertPlan plan;
  const ModelConfig config = load_checkpoint(kGoldenModel).config;
  std::vector<int32_t> layers, experts;
  for (int32_t layer = 0; layer < static_cast<int32_t>(config.sparse.size()); ++layer)
    layers.push_back(layer);
  for (int32_t expert = 0; expert < static_cast<int32_t>(config.num_experts); ++expert)
    experts.push_back(expert);
  const auto said = [&] {
    plan.top_k = static_cast<int32_t>(config.top_k);
    plan.groups = {one_hot_group(layers, experts, static_cast<int32_t>(experts.size()))};
    write_plan(directory("plan.json"), plan, {});
    return eep::test::eep({"generate", kGoldenModel, "--ids", "1 2", "--max-new", "1", "--print-ids",
                           "--plan", directory("plan.json")})
        .err;
  };
  CHECK(said().find("the plan changes nothing: all") != std::string::npos);
  std::reverse(experts.begin(), experts.end());
  CHECK(said().find("stay as they are, in another order") != std::string::npos);
}

TEST_CASE("program: every golden plan is exported exactly, or refused and exported natively") {
  for (const char* model : {"mixtral_f32", "qwen2_bf16", "qwen3_f32"}) {
    const std::string source = kSource + "/tests/golden/" + model;
    int exported = 0, refused = 0;
    for (const auto& entry : std::filesystem::directory_iterator(source + "/plans")) {
      if (entry.path().extension() != ".json") continue;
      CAPTURE(entry.path().string());
      TempDir directory;
      const std::string plan = entry.path().string(), out = directory("out");
      const Outcome made = eep::test::eep({"export", source, "--plan", plan, "--allow-ties", "--out", out});
      if (made.code == 65) {
        CHECK(made.err.find("a stock checkpoint cannot express it") != std::string::npos);
        CHECK(made.err.find("--format native") != std::string::npos);
        ++refused;
      } else {
        REQUIRE(made.code == 0);
        CHECK(eep::test::eep({"verify", out, "--against", source}).code == 0);
        ++exported;
      }
      const std::string native = directory("native");
      REQUIRE(
          eep::test::eep({"export", source, "--plan", plan, "--out", native, "--format", "native"}).code ==
          0);
      const Outcome verified = eep::test::eep({"verify", native, "--against", source});
      CAPTURE(verified.out);
      CHECK(verified.code == 0);
      const std::vector<std::string> ids{"--ids", "1 5 2 7 3 11", "--out"};
      const auto logits = [&](std::vector<std::string> arguments, const std::string& file) {
        arguments.insert(arguments.end(), ids.begin(), ids.end());
        arguments.push_back(directory(file));
        REQUIRE(eep::test::eep(arguments).code == 0);
        return logits_bytes(directory(file), "logits.0");
      };
      CHECK(logits({"logits", native}, "a") == logits({"logits", source, "--plan", plan}, "b"));
    }
    CHECK(exported >= 3);
    CHECK(refused >= 3);
  }
}

TEST_CASE("program: an export on a full disk leaves nothing, a killed one nothing that looks complete") {
  TempDir directory;
  const std::vector<std::string> command{"export", kGoldenModel,    "--plan", kPlans + "one_hot_logits.json",
                                         "--out",  directory("out")};
  RunLimits full_disk;
  full_disk.file_size = 4096;
  const Outcome outcome = eep::test::eep(command, full_disk);
  CHECK(outcome.code == 74);
  CHECK(!std::filesystem::exists(directory("out")));
  CHECK(!std::filesystem::exists(directory("out.partial")));
  for (int64_t microseconds : {500, 2000, 5000, 8000, 12000}) {
    RunLimits killed;
    killed.signal = SIGKILL;
    killed.microseconds = microseconds;
    eep::test::eep(command, killed);
    if (!std::filesystem::exists(directory("out"))) continue;
    CHECK(eep::test::eep({"verify", directory("out"), "--against", kGoldenModel, "--no-logits"}).code == 0);
    std::filesystem::remove_all(directory("out"));
  }
  CHECK(eep::test::eep(command).code == 0);
  CHECK(!std::filesystem::exists(directory("out.partial")));
}

TEST_CASE("program: the memory of an export does not grow with the model") {
  TempDir directory;
  RunLimits limits;
  limits.private_memory = rlim_t{96} << 20;
  const auto export_of = [&](int64_t layers, int64_t experts, const char* name) {
    SparseModel model;  // 6 MiB an expert
    model.hidden_size = 1024;
    model.intermediate_size = 1024;
    model.num_layers = layers;
    model.num_experts = experts;
    if (!model.write(directory, name)) return;
    Json row = Json::array();
    for (int64_t expert = 0; expert < experts; ++expert) row.push_back(expert == 1 ? 0.75 : 0.03125);
    Json list = Json::array();
    for (int64_t layer = 0; layer < layers; ++layer) list.push_back(layer);
    const Json plan{{"format", "eep-plan"},
                    {"version", 1},
                    {"model", {{"family", "mixtral"}, {"layers", layers}, {"experts", experts}}},
                    {"top_k", 1},
                    {"router_space", "logits"},
                    {"groups", {{{"layers", list}, {"router_mapping", {row}}, {"expert_merging", {row}}}}}};
    const std::string path = directory.write(std::string(name) + ".json", plan.dump());
    const std::string out = directory(std::string(name) + ".out");
    const Outcome made =
        eep::test::eep({"export", directory(name), "--plan", path, "--out", out, "--threads", "2"}, limits);
    CAPTURE(made.err);
    CHECK(made.code == 0);
    const Outcome verified = eep::test::eep(
        {"verify", out, "--against", directory(name), "--no-logits", "--threads", "2"}, limits);
    CAPTURE(verified.err);
    CHECK(verified.code == 0);
  };
  export_of(1, 4, "small");
  export_of(2, 16, "large");  // twice the limit
}

TEST_CASE("program: a GGUF file becomes a model that runs") {
  TempDir directory;
  GgufWriter writer;
  writer.model("llama", 0);
  const std::string source = directory.write("dense.gguf", writer.bytes());
  CHECK(eep::test::eep({"convert", source, "--out", directory("dense")}).code == 0);
  const Outcome dense = eep::test::eep({"inspect", directory("dense")});
  CHECK(dense.code == 65);
  CHECK(dense.err.find("got llama") != std::string::npos);
  const Outcome made = eep::test::eep({"convert", source, "--out", directory("moe"), "--moefy", "4"});
  CAPTURE(made.err);
  REQUIRE(made.code == 0);
  CHECK(!std::filesystem::exists(directory("moe/dense")));
  CHECK(eep::test::eep({"verify", directory("moe")}).code == 0);
  CHECK(eep::test::eep(
            {"generate", directory("moe"), "--ids", "1 2", "--max-new", "3", "--ignore-eos", "--print-ids"})
            .code == 0);
  CHECK(eep::test::eep({"convert", source, "--out", directory("x"), "--moefy", "4", "--top-k", "2"}).code ==
        2);
  CHECK(!std::filesystem::exists(directory("x")));
  CHECK(eep::test::eep({"convert", kGoldenModel + "/config.json", "--out", directory("x")}).code == 65);
  CHECK(eep::test::eep({"convert", directory("none.gguf"), "--out", directory("x")}).code == 66);
  CHECK(eep::test::eep({"import-coefficients", source, "--out", directory("p.json")}).code == 65);
  CHECK(!std::filesystem::exists(directory("p.json")));
}

TEST_CASE("program: a chat prompt needs a template") {
  const std::vector<std::string> start{"generate", kDemoModel, "--prompt", "a", "--chat", "--max-new", "2"};
  CHECK(eep::test::eep(start).code == 2);
  std::vector<std::string> plain = start;
  plain.insert(plain.end(), {"--template", "none"});
  CHECK(eep::test::eep(plain).code == 0);
  plain.back() = "alpaca";
  CHECK(eep::test::eep(plain).code == 2);
}

TEST_CASE(
    "program: gate rows that tie are refused unless they are allowed, and routing is compared on text") {
  const TempDir directory;
  const std::string source = kSource + "/tests/golden/mixtral_bf16", plan_file = directory("tie.json");
  const ModelConfig config = load_checkpoint(source).config;
  const auto experts = static_cast<size_t>(config.num_experts);
  ExpertPlan plan = identity_plan(config.sparse, static_cast<int32_t>(experts), 1);
  plan.router_space = RouterSpace::kLogits;
  PlanGroup& group = plan.groups[0];
  group.kept = 3;
  group.expert_merging.resize(3 * experts);
  group.router_mapping.assign(3 * experts, 0.0f);
  for (size_t e = 0; e < experts; ++e) {  // two rows as far apart as 16 bits cannot tell, and another one
    group.router_mapping[e] = 0.5f - 0.125f * static_cast<float>(e);
    group.router_mapping[experts + e] = group.router_mapping[e] * 1.000001f;
    group.router_mapping[2 * experts + e] = 0.3f * static_cast<float>(e);
  }
  for (PlanGroup& each : plan.groups) {
    each.kept = 3;
    each.expert_merging = group.expert_merging;
    each.router_mapping = group.router_mapping;
  }
  write_plan(plan_file, plan, plan_info(config));

  const auto exported = [&](const char* name, std::vector<std::string> more) {
    more.insert(more.begin(), {"export", source, "--plan", plan_file, "--out", directory(name)});
    return eep::test::eep(more);
  };
  const Outcome refused = exported("refused", {});
  CAPTURE(refused.err);
  CHECK(refused.code == 65);
  CHECK(refused.err.find("gate rows 0 and 1 are equal in BF16") != std::string::npos);
  CHECK(refused.err.find("--allow-ties") != std::string::npos);
  CHECK(!std::filesystem::exists(directory("refused")));
  const std::string ids = directory.write("ids.json", "[[1, 2, 3, 4, 5], [6, 7, 8]]");
  const Outcome allowed = exported("allowed", {"--allow-ties", "--ids-file", ids});
  CAPTURE(allowed.err);
  CHECK(allowed.code == 0);
  CHECK(allowed.err.find("warning: ") != std::string::npos);
  CHECK(allowed.err.find(" tokens times layers choose other experts than the plan") != std::string::npos);
  CHECK(exported("native", {"--format", "native"}).code == 0);
  CHECK(exported("both", {"--task", "sort", "--ids-file", ids}).code == 2);
}
