// Layers for multi-token prediction, expert counts in several places, and plans that prune nothing.
#include <doctest/doctest.h>

#include "loaders/models/checkpoint.h"
#include "loaders/models/export.h"
#include "loaders/models/export_config.h"
#include "loaders/models/model_hash.h"
#include "loaders/models/mtp.h"
#include "loaders/models/verify.h"
#include "tests/loaders/tiny_checkpoint.h"

namespace eep {
namespace {

// Three experts, a router, a norm; under mtp. or as a layer after the last.
TinyCheckpoint with_mtp(const std::string& prefix) {
  TinyCheckpoint tiny("qwen3_moe");
  for (int expert = 0; expert < 3; ++expert) {
    tiny.add(prefix + "mlp.experts." + std::to_string(expert) + ".up_proj.weight", {5, 6});
    tiny.add(prefix + "mlp.experts." + std::to_string(expert) + ".down_proj.weight", {6, 5});
  }
  tiny.add(prefix + "mlp.gate.weight", {3, 6});
  tiny.add(prefix + "mlp.gate.e_score_correction_bias", {3});
  tiny.add(prefix + "eh_proj.weight", {3, 12});
  tiny.config["num_nextn_predict_layers"] = 1;
  return tiny;
}

ExpertPlan plan_of(const RawModel& raw, float merged) {
  ExpertPlan plan = identity_plan(raw.config.sparse, 3, 2);
  plan.router_space = RouterSpace::kLogits;
  for (PlanGroup& group : plan.groups) {
    group.kept = 2;
    group.router_mapping = {0, 0, 1, 1, 0, 0};
    group.expert_merging = {0, 0, 1, 1, merged, 0};
  }
  return plan;
}

std::string exported(const Scratch& source, const RawModel& raw, const ExpertPlan& plan, MtpExport mtp,
                     const std::string& name) {
  ExportOptions options;
  options.mtp = mtp;
  options.source_hash = model_hash(raw);
  options.program = "eep test";
  export_checkpoint(raw, source.path(), plan, plan_info(raw.config), options, source.path(name));
  return source.path(name);
}

std::string bytes_of(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry* entry = file.find(name);
  REQUIRE_MESSAGE(entry != nullptr, name);
  return std::string(reinterpret_cast<const char*>(file.data(*entry)), entry->bytes);
}

}  // namespace

TEST_CASE("mtp: the layers are read past, and an export says what becomes of them") {
  for (const std::string prefix : {"mtp.layers.0.", "model.layers.2."}) {
    CAPTURE(prefix);
    const Scratch source, plain;
    const TinyCheckpoint tiny = with_mtp(prefix);
    tiny.write(source);
    TinyCheckpoint("qwen3_moe").write(plain);
    const RawModel raw = load_checkpoint(source.path());
    CHECK(mtp_tensors(raw).size() == 9);
    CHECK(model_hash(raw) == model_hash(load_checkpoint(plain.path())));
    const ExpertPlan plan = plan_of(raw, 0), merging = plan_of(raw, 0.5f);
    check_error(ExitCode::kData, "has layers for multi-token prediction",
                [&] { exported(source, raw, plan, MtpExport::kRefuse, "refused"); });
    CHECK_FALSE(is_there(source.path("refused")));
    check_error(ExitCode::kData, "the plan merges experts of the last layer",
                [&] { exported(source, raw, merging, MtpExport::kPrune, "merged"); });

    for (const auto& [mtp, count] :
         {std::pair{MtpExport::kKeep, 9}, {MtpExport::kPrune, 7}, {MtpExport::kDrop, 0}}) {
      const std::string out = exported(source, raw, plan, mtp, "out" + std::to_string(count));
      const RawModel again = load_checkpoint(out);
      CHECK(mtp_tensors(again).size() == static_cast<size_t>(count));
      const Json config = parse_json(read_file(out + "/config.json"), "config");
      CHECK(config["num_nextn_predict_layers"] == (mtp == MtpExport::kDrop ? 0 : 1));
      CHECK(config["num_experts"] == 2);
      const Json provenance = parse_json(read_file(out + "/eep_provenance.json"), "provenance");
      CHECK(provenance["mtp"] == (mtp == MtpExport::kKeep   ? "kept as it is"
                                  : mtp == MtpExport::kDrop ? "dropped"
                                                            : "pruned as the last layer"));
      for (const Check& check : verify_against(out, again, source.path(), raw, plan, Device{}, nullptr))
        CHECK_MESSAGE(check.passed, check.name << ": " << check.detail);
    }
    const SafetensorsFile pruned(source.path("out7/model.safetensors"));
    CHECK(bytes_of(pruned, prefix + "mlp.experts.0.up_proj.weight") ==
          tiny.tensors.at(prefix + "mlp.experts.2.up_proj.weight").bytes);
    CHECK(bytes_of(pruned, prefix + "mlp.experts.1.down_proj.weight") ==
          tiny.tensors.at(prefix + "mlp.experts.0.down_proj.weight").bytes);
    const std::string gate = tiny.tensors.at(prefix + "mlp.gate.weight").bytes;
    CHECK(bytes_of(pruned, prefix + "mlp.gate.weight") == gate.substr(48, 24) + gate.substr(0, 24));
    const std::string bias = tiny.tensors.at(prefix + "mlp.gate.e_score_correction_bias").bytes;
    CHECK(bytes_of(pruned, prefix + "mlp.gate.e_score_correction_bias") ==
          bias.substr(8, 4) + bias.substr(0, 4));
    CHECK(bytes_of(pruned, prefix + "eh_proj.weight") == tiny.tensors.at(prefix + "eh_proj.weight").bytes);
  }
}

TEST_CASE("mtp: a layer too many without the config's number is still a tensor too many") {
  const Scratch scratch;
  TinyCheckpoint tiny = with_mtp("model.layers.2.");
  tiny.config.erase("num_nextn_predict_layers");
  tiny.write(scratch);
  check_error(ExitCode::kData, "model.layers.2.eh_proj.weight: tensor that the architecture",
              [&] { load_checkpoint(scratch.path()); });
}

TEST_CASE("config: every holder of the count agrees, and an export changes all of them") {
  const Scratch scratch;
  TinyCheckpoint tiny("mixtral");
  tiny.config["num_experts"] = 3;
  tiny.config["text_config"] = {{"num_experts", 3}, {"num_local_experts", 3}, {"num_experts_per_tok", 2}};
  tiny.config["nested"] = {{"num_experts", 77}};
  tiny.write(scratch);
  const RawModel raw = load_checkpoint(scratch.path());
  const std::string out = exported(scratch, raw, plan_of(raw, 0), MtpExport::kRefuse, "out");
  Json expected = tiny.config;
  for (const char* key : {"num_experts", "num_local_experts"})
    expected[key] = expected["text_config"][key] = 2;
  CHECK(parse_json(read_file(out + "/config.json"), "config") == expected);

  tiny.config["text_config"]["num_local_experts"] = 4;
  tiny.write(scratch);
  check_error(ExitCode::kData,
              "text_config.num_local_experts: wrong value (expected the same as num_local_experts, got 4)",
              [&] { load_checkpoint(scratch.path()); });
  Json wrapper{{"model_type", "qwen3_vl_moe"}, {"text_config", tiny.config}};
  scratch.write("config.json", wrapper.dump());
  check_error(ExitCode::kData, "the text model lies in text_config (model_type mixtral)",
              [&] { load_checkpoint(scratch.path()); });
}

TEST_CASE("export: a plan that keeps every expert is known as one that prunes nothing") {
  const Scratch scratch;
  TinyCheckpoint("mixtral").write(scratch);
  const RawModel raw = load_checkpoint(scratch.path());
  CHECK(keeps_all_experts(identity_plan(raw.config.sparse, 3, 2)));
  CHECK_FALSE(keeps_all_experts(plan_of(raw, 0)));
}

}  // namespace eep
