// gpt-oss: experts in MXFP4 and in plain numbers, what an export makes of them, and what is refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "engine/coded_matrix.h"
#include "engine/forward.h"
#include "engine/ops.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/config_json.h"
#include "loaders/models/export.h"
#include "loaders/models/finite.h"
#include "loaders/models/model_hash.h"
#include "loaders/models/verify.h"
#include "tests/loaders/tiny_checkpoint.h"

namespace eep {
namespace {

const std::string kMxfp4 = std::string(EEP_SOURCE_DIR) + "/tests/golden/gptoss_mxfp4";

// From the definition: a sign, two bits of exponent (bias 1), one of mantissa.
double e2m1_value(int code) {
  const int exponent = code >> 1 & 3, mantissa = code & 1;
  const double magnitude = exponent == 0 ? mantissa * 0.5 : std::ldexp(2 + mantissa, exponent - 2);
  return (code & 8) != 0 ? -magnitude : magnitude;
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

std::vector<float> logits_of(const RawModel& raw, const ExpertPlan& plan) {
  const Weights weights(raw, cpu_ops());
  PopulationForward forward(weights, 0);
  return forward.logits(plan, std::vector<int32_t>{1, 4, 2, 0, 6, 3, 5, 5, 2, 1, 1, 3});
}

ExpertPlan whole(const RawModel& raw) {
  ExpertPlan plan = identity_plan(raw.config.sparse, static_cast<int32_t>(raw.config.num_experts),
                                  static_cast<int32_t>(raw.config.top_k));
  plan.router_space = RouterSpace::kLogits;
  return plan;
}

// The last experts, as many as are active and one more; each takes a share of the first one where it merges.
ExpertPlan last_experts(const RawModel& raw, bool merges) {
  ExpertPlan plan = whole(raw);
  for (PlanGroup& group : plan.groups) {
    group.kept = plan.top_k + 1;
    const auto size = static_cast<size_t>(group.kept) * static_cast<size_t>(group.experts);
    group.router_mapping.assign(size, 0.0f);
    for (int32_t row = 0; row < group.kept; ++row)
      group.router_mapping[static_cast<size_t>(row * group.experts + group.experts - group.kept + row)] = 1;
    group.expert_merging = group.router_mapping;
    for (int32_t row = 0; merges && row < group.kept; ++row)
      group.expert_merging[static_cast<size_t>(row * group.experts)] = 0.25f;
  }
  return plan;
}

void export_to(const RawModel& raw, const std::string& source, const ExpertPlan& plan, const std::string& out,
               ExportFormat format = ExportFormat::kHf) {
  ExportOptions options;
  options.format = format;
  options.source_hash = model_hash(raw);
  options.program = "eep test";
  export_checkpoint(raw, source, plan, plan_info(raw.config), options, out);
}

std::string bytes_of(const SafetensorsFile& file, const std::string& name) {
  const SafetensorsEntry* entry = file.find(name);
  REQUIRE(entry != nullptr);
  return {reinterpret_cast<const char*>(file.data(*entry)), entry->bytes};
}

void check_verified(const std::string& out, const std::string& source, const RawModel& raw,
                    const ExpertPlan& plan) {
  std::optional<RawModel> model;
  for (const Check& check : verify_directory(out, model)) {
    CAPTURE(check.detail);
    CHECK(check.passed);
  }
  REQUIRE(model);
  for (const Check& check : verify_against(out, *model, source, raw, plan, Device{}, {})) {
    CAPTURE(check.detail);
    CHECK(check.passed);
  }
}

}  // namespace

TEST_CASE("gpt-oss: MXFP4 numbers are those of their definition, element by element and in rows") {
  const RawModel raw = load_checkpoint(kMxfp4);
  const SafetensorsFile file(kMxfp4 + "/model.safetensors");
  CHECK(raw.config.mxfp4);
  const int64_t hidden = raw.config.hidden_size, inner = raw.config.expert_intermediate_size;
  int64_t wrong = 0;
  Buffer values;
  for (size_t layer = 0; layer < raw.layers.size(); ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".mlp.experts.";
    for (const char* projection : {"gate_up_proj", "down_proj"}) {
      const std::string codes = bytes_of(file, prefix + projection + "_blocks");
      const std::string scales = bytes_of(file, prefix + projection + "_scales");
      const bool both = std::string(projection) == "gate_up_proj";
      const int64_t n = both ? 2 * inner : hidden, k = both ? hidden : inner;
      for (size_t expert = 0; expert < raw.layers[layer].experts.size(); ++expert) {
        const RawFfn& ffn = raw.layers[layer].experts[expert];
        for (int64_t row = 0; row < n; ++row) {
          const RawMatrix& matrix = !both ? ffn.down : row % 2 == 0 ? ffn.gate : ffn.up;
          const int64_t own = both ? row / 2 : row;
          const RawMatrix rows = decoded(matrix, values);
          for (int64_t column = 0; column < k; ++column) {
            const auto at = static_cast<size_t>((static_cast<int64_t>(expert) * n + row) * k + column);
            const int byte = static_cast<unsigned char>(codes[at / 2]);
            const int power = static_cast<unsigned char>(scales[at / 32]) - 127;
            const auto value =
                static_cast<float>(std::ldexp(e2m1_value(at % 2 == 0 ? byte & 15 : byte >> 4), power));
            wrong += !same_bits(element_of(matrix, own, column), value);
            wrong += !same_bits(element_of(rows, own, column), value);
          }
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("gpt-oss: rows of gate and up and of their biases alternate in plain numbers") {
  const Scratch scratch;
  TinyCheckpoint("gpt_oss").write(scratch);
  const RawModel raw = load_checkpoint(scratch.path());
  const SafetensorsFile file(scratch.path("model.safetensors"));
  const auto value = [&](const std::string& name, int64_t at) {
    float out;
    std::memcpy(&out, bytes_of(file, "model.layers.1.mlp.experts." + name).data() + at * 4, 4);
    return out;
  };
  const RawFfn& ffn = raw.layers[1].experts[2];
  for (int64_t i = 0; i < 5; ++i) {
    CHECK(element_of(ffn.gate_bias, i, 0) == value("gate_up_proj_bias", 2 * 10 + 2 * i));
    CHECK(element_of(ffn.up_bias, i, 0) == value("gate_up_proj_bias", 2 * 10 + 2 * i + 1));
    for (int64_t j = 0; j < 6; ++j) {
      CHECK(element_of(ffn.gate, i, j) == value("gate_up_proj", (2 * 6 + j) * 10 + 2 * i));
      CHECK(element_of(ffn.up, i, j) == value("gate_up_proj", (2 * 6 + j) * 10 + 2 * i + 1));
      CHECK(element_of(ffn.down, j, i) == value("down_proj", (2 * 5 + i) * 6 + j));
    }
  }
  CHECK(element_of(ffn.down_bias, 4, 0) == value("down_proj_bias", 2 * 6 + 4));
  CHECK(raw.config.sliding_window == 3);
  CHECK(raw.config.windowed == std::vector<uint8_t>{1, 0});
}

TEST_CASE("gpt-oss: an export of a selection slices blocks and scales, one that merges holds values") {
  const RawModel raw = load_checkpoint(kMxfp4);
  const SafetensorsFile source(kMxfp4 + "/model.safetensors");
  for (bool merges : {false, true}) {
    CAPTURE(merges);
    const Scratch target;
    const std::string out = target.path("out");
    const ExpertPlan plan = last_experts(raw, merges);
    CHECK(stays_coded(raw, plan) == !merges);
    export_to(raw, kMxfp4, plan, out);
    check_verified(out, kMxfp4, raw, plan);
    const RawModel again = load_checkpoint(out);
    CHECK(again.config.mxfp4 == !merges);
    CHECK(again.config.num_experts == plan.top_k + 1);
    CHECK(logits_of(again, whole(again)) == logits_of(raw, plan));
    const Json config = parse_json(read_file(out + "/config.json"), "config.json");
    CHECK(config.contains("quantization_config") == !merges);
    CHECK(config["experts_per_token"] == plan.top_k);
    if (merges) continue;
    const SafetensorsFile file(out + "/model.safetensors");
    for (const char* name : {"gate_up_proj_blocks", "gate_up_proj_scales", "down_proj_blocks",
                             "down_proj_scales", "gate_up_proj_bias", "down_proj_bias"}) {
      const std::string tensor = std::string("model.layers.1.mlp.experts.") + name;
      const std::string all = bytes_of(source, tensor), kept = bytes_of(file, tensor);
      CHECK(all.substr(all.size() - kept.size()) == kept);
      CHECK(kept.size() * 8 == all.size() * 5);
    }
  }
}

TEST_CASE("gpt-oss: MXFP4 in the native layout, and with other counts layer by layer") {
  const RawModel raw = load_checkpoint(kMxfp4);
  for (bool merges : {false, true}) {
    for (ExportFormat format : {ExportFormat::kNative, ExportFormat::kHfPerLayer}) {
      CAPTURE(merges);
      CAPTURE(static_cast<int>(format));
      const Scratch target;
      ExpertPlan plan = last_experts(raw, merges);
      PlanGroup second = plan.groups[0];
      plan.groups[0].layers = {0};
      second.layers = {1};
      second.kept -= 1;
      for (std::vector<float>* matrix : {&second.router_mapping, &second.expert_merging})
        matrix->resize(static_cast<size_t>(second.kept) * static_cast<size_t>(second.experts));
      plan.groups.push_back(second);
      export_to(raw, kMxfp4, plan, target.path("out"), format);
      const RawModel again = load_checkpoint(target.path("out"));
      CHECK(again.config.mxfp4 == !merges);
      REQUIRE(again.plan);
      CHECK(logits_of(again, *again.plan) == logits_of(raw, plan));
      if (format == ExportFormat::kHfPerLayer) check_verified(target.path("out"), kMxfp4, raw, plan);
    }
  }
}

TEST_CASE("gpt-oss: exports of plain numbers compute what the plan in memory computes, to the bit") {
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const Scratch source;
    TinyCheckpoint("gpt_oss", TinyLayout::kPerExpert, dtype).write(source);
    const RawModel raw = load_checkpoint(source.path());
    ExpertPlan plan = whole(raw);
    for (PlanGroup& group : plan.groups) {
      group.kept = 2;
      group.router_mapping = {0, 0, 1, 1, 0, 0};
      group.expert_merging = {0, 0.5f, 1, 1, 0, 0};
    }
    for (ExportFormat format : {ExportFormat::kHf, ExportFormat::kNative}) {
      CAPTURE(dtype_name(dtype));
      const Scratch target;
      export_to(raw, source.path(), plan, target.path("out"), format);
      const RawModel again = load_checkpoint(target.path("out"));
      CHECK(logits_of(again, again.plan ? *again.plan : whole(again)) == logits_of(raw, plan));
      if (format == ExportFormat::kHf) check_verified(target.path("out"), source.path(), raw, plan);
    }
  }
}

namespace {

// The golden checkpoint, its tensors changed.
void rewrite_golden(const Scratch& scratch,
                    const std::function<void(std::map<std::string, TinyTensor>&)>& change) {
  const SafetensorsFile file(kMxfp4 + "/model.safetensors");
  std::map<std::string, TinyTensor> tensors;
  for (const SafetensorsEntry& entry : file.header.entries) {
    const bool coded = entry.dtype == "U8";
    tensors[entry.name] = {coded ? DType::kF32 : DType::kBF16, entry.shape, bytes_of(file, entry.name),
                           coded ? Code::kByte : Code::kNone};
  }
  change(tensors);
  std::vector<NamedTensor> list;
  for (const auto& [name, tensor] : tensors)
    list.push_back({{name, tensor.dtype, tensor.shape, tensor.code}, tensor.bytes.data()});
  write_safetensors(scratch.path("model.safetensors"), list);
  scratch.write("config.json", read_file(kMxfp4 + "/config.json"));
}

}  // namespace

TEST_CASE("gpt-oss: a checkpoint in 4 bits is its twin in plain values, hash and logits to the bit") {
  const RawModel raw = load_checkpoint(kMxfp4);
  const int64_t hidden = raw.config.hidden_size, inner = raw.config.expert_intermediate_size;
  const Scratch scratch;
  const auto append = [](std::string& bytes, float value) {
    const uint16_t bits = f32_to_bf16(value);
    bytes.append(reinterpret_cast<const char*>(&bits), sizeof bits);
  };
  rewrite_golden(scratch, [&](auto& tensors) {
    for (size_t layer = 0; layer < raw.layers.size(); ++layer) {
      TinyTensor gate_up{DType::kBF16, {raw.config.num_experts, hidden, 2 * inner}, {}};
      TinyTensor down{DType::kBF16, {raw.config.num_experts, inner, hidden}, {}};
      for (const RawFfn& ffn : raw.layers[layer].experts) {
        for (int64_t j = 0; j < hidden; ++j) {
          for (int64_t i = 0; i < 2 * inner; ++i)
            append(gate_up.bytes, element_of(i % 2 == 0 ? ffn.gate : ffn.up, i / 2, j));
        }
        for (int64_t i = 0; i < inner; ++i) {
          for (int64_t j = 0; j < hidden; ++j) append(down.bytes, element_of(ffn.down, j, i));
        }
      }
      const std::string experts = "model.layers." + std::to_string(layer) + ".mlp.experts.";
      for (const char* name :
           {"gate_up_proj_blocks", "gate_up_proj_scales", "down_proj_blocks", "down_proj_scales"})
        tensors.erase(experts + name);
      tensors[experts + "gate_up_proj"] = std::move(gate_up);
      tensors[experts + "down_proj"] = std::move(down);
    }
  });
  Json config = parse_json(read_file(kMxfp4 + "/config.json"), "config.json");
  config.erase("quantization_config");
  scratch.write("config.json", config.dump());
  const RawModel twin = load_checkpoint(scratch.path());
  CHECK_FALSE(twin.config.mxfp4);
  CHECK(model_hash(twin) == model_hash(raw));
  CHECK(logits_of(twin, whole(twin)) == logits_of(raw, whole(raw)));
}

TEST_CASE("gpt-oss: a number that its scale makes infinite is told by its tensor and expert") {
  const std::string down = "model.layers.1.mlp.experts.down_proj";
  const auto with_number = [&](char number, const std::function<void(const RawModel&)>& look) {
    const Scratch scratch;
    rewrite_golden(scratch, [&](auto& tensors) {
      std::string &codes = tensors.at(down + "_blocks").bytes, &scales = tensors.at(down + "_scales").bytes;
      const size_t block = codes.size() / 8 * 3 / 16;  // the first of expert 3
      std::fill(codes.begin() + static_cast<std::ptrdiff_t>(block * 16),
                codes.begin() + static_cast<std::ptrdiff_t>(block * 16 + 16), '\0');
      codes[block * 16 + 4] = number;
      scales[block] = '\xfe';  // 2^127
    });
    look(load_checkpoint(scratch.path()));
  };
  with_number('\x50', [&](const RawModel& model) {  // 3 in column 9
    check_error(
        ExitCode::kData,
        down +
            "_blocks: row 0, column 9 of expert 3, times the scale of its block, is beyond the range of BF16",
        [&] { require_finite(model); });
  });
  with_number('\x10', [&](const RawModel& model) {
    require_finite(model);
  });  // 0.5: the largest power of two, halved
}

TEST_CASE("gpt-oss: scales that are no numbers and tensors of neither layout are told by name") {
  const std::string experts = "model.layers.1.mlp.experts.";
  const Scratch nan;
  rewrite_golden(nan, [&](auto& tensors) { tensors.at(experts + "down_proj_scales").bytes[5] = '\xff'; });
  const RawModel model = load_checkpoint(nan.path());
  check_error(ExitCode::kData, experts + "down_proj_scales: element 5 (of expert 0) is not finite",
              [&] { require_finite(model); });
  std::optional<RawModel> verified;
  bool told = false;
  for (const Check& check : verify_directory(nan.path(), verified))
    told |= check.detail.find("down_proj_scales: element 5") != std::string::npos;
  CHECK(told);

  const Scratch lost;
  rewrite_golden(lost, [&](auto& tensors) { tensors.erase(experts + "down_proj_bias"); });
  check_error(ExitCode::kData, experts + "down_proj_bias: missing tensor", [&] {
    try {
      load_checkpoint(lost.path());
    } catch (const Error& error) {
      CHECK(std::string(error.what()).find("quantised") == std::string::npos);
      throw;
    }
  });
  const Scratch plain;
  rewrite_golden(plain, [&](auto& tensors) {
    TinyTensor values = tensors.at("model.norm.weight");
    for (const char* part : {"_blocks", "_scales"}) tensors.erase(experts + "down_proj" + part);
    tensors[experts + "down_proj"] = values;
  });
  check_error(ExitCode::kData,
              experts + "down_proj: no 4-bit weights, and config.json says quant_method mxfp4",
              [&] { load_checkpoint(plain.path()); });
}

TEST_CASE("gpt-oss: what its config cannot say is refused in one line") {
  const auto refused = [](const char* key, const Json& value, const char* what) {
    const Scratch scratch;
    TinyCheckpoint tiny("gpt_oss");
    if (value.is_null())
      tiny.config.erase(key);
    else
      tiny.config[key] = value;
    tiny.write(scratch);
    check_error(ExitCode::kData, what, [&] { load_checkpoint(scratch.path()); });
  };
  refused("layer_types", Json::array({"full_attention"}), "wrong length (expected 2, one a layer, got 1)");
  refused("layer_types", Json::array({"full_attention", "linear_attention"}),
          "sliding_attention or full_attention");
  refused("swiglu_limit", 0, "a number above 0");
  refused("experts_per_token", 1, "the same as num_experts_per_tok");
  refused("rope_scaling", nullptr, "nothing says how positions turn");
  refused("quantization_config", Json{{"quant_method", "fp8"}}, "expected mxfp4");
  refused("quantization_config", Json{{"quant_method", "mxfp4"}}, "blocks of 32 numbers do not divide a row");
  for (const auto& [lost, what] : {std::pair{"down_proj_bias", "down_proj_bias: missing tensor"},
                                   {"gate_up_proj", "gate_up_proj: missing tensor"}}) {
    const Scratch without;
    TinyCheckpoint tiny("gpt_oss");
    tiny.tensors.erase(std::string("model.layers.1.mlp.experts.") + lost);
    tiny.write(without);
    check_error(ExitCode::kData, what, [&] { load_checkpoint(without.path()); });
  }
  const Scratch scratch;
  TinyCheckpoint other("mixtral");
  other.config["quantization_config"] = {{"quant_method", "mxfp4"}};
  other.write(scratch);
  check_error(ExitCode::kData, "expected fp8", [&] { load_checkpoint(scratch.path()); });
}

}  // namespace eep
