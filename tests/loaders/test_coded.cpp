// Checkpoints in 8 bits: the values that are read, what an export keeps of them, and what is refused.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "engine/coded_matrix.h"
#include "engine/forward.h"
#include "engine/ops.h"
#include "kernels/common/float8.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/export.h"
#include "loaders/models/export_config.h"
#include "loaders/models/finite.h"
#include "loaders/models/model_hash.h"
#include "loaders/models/verify.h"
#include "tests/loaders/coded_checkpoint.h"

namespace eep {
namespace {

std::vector<float> logits_of(const RawModel& raw, const ExpertPlan& plan, const Ops& ops = cpu_ops()) {
  const Weights weights(raw, ops);
  PopulationForward forward(weights, 0);
  const std::vector<int32_t> tokens{1, 4, 2, 0, 6, 3, 5, 5};
  return forward.logits(plan, tokens);
}

ExpertPlan plan_of(const RawModel& raw, bool merges) {
  ExpertPlan plan = identity_plan(raw.config.sparse, 3, 2);
  plan.router_space = RouterSpace::kLogits;
  for (PlanGroup& group : plan.groups) {
    group.kept = 2;
    group.router_mapping = {0, 0, 1, 1, 0, 0};
    group.expert_merging = {0, 0, 1, 1, merges ? 0.25f : 0, 0};
  }
  return plan;
}

ExpertPlan whole(const RawModel& raw) {
  ExpertPlan plan = identity_plan(raw.config.sparse, static_cast<int32_t>(raw.config.num_experts), 2);
  plan.router_space = RouterSpace::kLogits;
  return plan;
}

std::string export_of(const RawModel& raw, const Scratch& source, const ExpertPlan& plan, const char* name,
                      ExportFormat format = ExportFormat::kHf) {
  ExportOptions options;
  options.format = format;
  options.source_hash = model_hash(raw);
  options.program = "eep test";
  export_checkpoint(raw, source.path(), plan, plan_info(raw.config), options, source.path(name));
  return source.path(name);
}

bool same_bits(float a, float b) { return std::memcmp(&a, &b, sizeof a) == 0; }

}  // namespace

TEST_CASE("coded: E4M3 and E8M0 numbers are those of their definition") {
  for (int code = 0; code < 256; ++code) {
    CAPTURE(code);
    const float value = e4m3_to_f32(static_cast<uint8_t>(code));
    if ((code & 127) == 127) {
      CHECK(std::isnan(value));
    } else {
      CHECK(same_bits(value, static_cast<float>(e4m3_value(code))));
    }
    const float power = e8m0_to_f32(static_cast<uint8_t>(code));
    if (code == 255) {
      CHECK(std::isnan(power));
    } else {
      CHECK(same_bits(power, static_cast<float>(std::ldexp(1.0, code - 127))));
    }
  }
}

TEST_CASE("coded: rows of blocks of any size have the elements' values") {
  std::vector<uint8_t> codes(90 * 70);
  for (size_t i = 0; i < codes.size(); ++i) {
    codes[i] = static_cast<uint8_t>(i * 7919 >> 3);
    if ((codes[i] & 127) == 127) codes[i] ^= 1;
  }
  std::vector<float> scales(90 * 70);
  for (size_t i = 0; i < scales.size(); ++i) scales[i] = 0.37f / static_cast<float>(i + 3);
  for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const auto& [block_rows, columns] :
         {std::pair<int64_t, int64_t>{128, 128}, {64, 32}, {7, 3}, {1, 70}, {90, 1}}) {
      const int64_t rows = block_rows;  // a binding is not captured
      for (const bool transposed : {false, true}) {
        CAPTURE(rows);
        CAPTURE(transposed);
        RawMatrix matrix{codes.data(), dtype, 85, 66, 70, 1};
        if (transposed) std::swap(matrix.row_stride, matrix.column_stride), std::swap(matrix.n, matrix.k);
        matrix.scales = {
            scales.data(), DType::kF32, Code::kNone, rows, columns, (70 + columns - 1) / columns, 1, 3, 2, 2};
        std::vector<uint8_t> out(static_cast<size_t>(matrix.n * matrix.k) * dtype_size(dtype));
        decode_rows(matrix, 0, 20, out.data());
        decode_rows(matrix, 20, matrix.n,
                    out.data() + static_cast<size_t>(20 * matrix.k) * dtype_size(dtype));
        const RawMatrix values{out.data(), dtype, matrix.n, matrix.k, matrix.k, 1};
        int64_t wrong = 0;
        for (int64_t i = 0; i < matrix.n; ++i) {
          for (int64_t j = 0; j < matrix.k; ++j)
            wrong += !same_bits(element_of(values, i, j), element_of(matrix, i, j));
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("coded: a checkpoint in 8 bits is its twin in plain values, to the bit, in every layout") {
  for (const char* family : {"mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "glm4_moe"}) {
    for (TinyLayout layout : {TinyLayout::kPerExpert, TinyLayout::kFused, TinyLayout::kTransposed}) {
      for (const auto& [block_rows, columns] : {std::pair{4, 4}, {128, 128}, {3, 2}, {1, 5}, {0, 0}}) {
        const int rows = block_rows;  // a binding is not captured
        for (Scales scales : {Scales::kF32, Scales::kBF16, Scales::kE8M0}) {
          CAPTURE(family);
          CAPTURE(static_cast<int>(layout));
          CAPTURE(rows);
          CAPTURE(static_cast<int>(scales));
          const Scratch coded, plain;
          const CodedCheckpoint both(family, rows, columns, layout, scales);
          both.coded.write(coded);
          both.plain.write(plain);
          const RawModel a = load_checkpoint(coded.path()), b = load_checkpoint(plain.path());
          CHECK(a.config.dtype == DType::kBF16);
          CHECK(model_hash(a) == model_hash(b));
          CHECK(logits_of(a, whole(a)) == logits_of(b, whole(b)));
          if (scales == Scales::kF32)
            CHECK(logits_of(a, whole(a), simt_ops()) == logits_of(b, whole(b), simt_ops()));
        }
      }
    }
  }
}

TEST_CASE("coded: an export that selects experts has the source's bytes, one that merges has 16 bits") {
  for (ExportFormat format : {ExportFormat::kHf, ExportFormat::kNative}) {
    for (const auto& [rows, columns] : {std::pair{4, 3}, {0, 0}}) {
      const Scratch source;
      const CodedCheckpoint both("qwen3_moe", rows, columns);
      both.coded.write(source);
      const RawModel raw = load_checkpoint(source.path());
      const ExpertPlan plan = plan_of(raw, false), merging = plan_of(raw, true);

      const std::string out = export_of(raw, source, plan, "selected", format);
      const SafetensorsFile file(out +
                                 (format == ExportFormat::kHf ? "/model.safetensors" : "/eep.safetensors"));
      const std::map<int, int> from{{0, 2}, {1, 0}};  // expert of the export to the source's
      for (const auto& [to, expert] : from) {
        for (const char* part : {"gate_proj", "up_proj", "down_proj"}) {
          for (const char* kind : {".weight", ".weight_scale_inv"}) {
            const std::string tail = std::string(".") + part + kind, prefix = "model.layers.1.mlp.experts.";
            const SafetensorsEntry* entry = file.find(prefix + std::to_string(to) + tail);
            const TinyTensor& stored = both.coded.tensors.at(prefix + std::to_string(expert) + tail);
            REQUIRE(entry != nullptr);
            CHECK(entry->shape == stored.shape);
            CHECK(entry->dtype ==
                  (stored.code == Code::kNone ? dtype_name(stored.dtype) : code_name(stored.code)));
            CHECK(std::string(reinterpret_cast<const char*>(file.data(*entry)), entry->bytes) ==
                  stored.bytes);
          }
        }
      }
      const RawModel again = load_checkpoint(out);
      CHECK(again.config.fp8.there);
      const auto of_export = [&](const RawModel& model) { return model.plan ? *model.plan : whole(model); };
      CHECK(logits_of(again, of_export(again)) == logits_of(raw, plan));

      const std::string merged = export_of(raw, source, merging, "merged", format);
      const RawModel plain = load_checkpoint(merged);
      CHECK_FALSE(plain.config.fp8.there);
      CHECK(plain.config.dtype == DType::kBF16);
      CHECK(logits_of(plain, of_export(plain)) == logits_of(raw, merging));
      const std::string config =
          read_file(merged + (format == ExportFormat::kHf ? "/config.json" : "/eep_config.json"));
      CHECK(config.find("quantization_config") == std::string::npos);
      for (const auto& [directory, model, applied] :
           {std::tuple{out, &again, &plan}, std::tuple{merged, &plain, &merging}}) {
        std::optional<RawModel> loaded;
        for (const Check& check : verify_directory(directory, loaded))
          CHECK_MESSAGE(check.passed, check.detail);
        for (const Check& check :
             verify_against(directory, *model, source.path(), raw, *applied, Device{}, nullptr))
          CHECK_MESSAGE(check.passed, check.name << ": " << check.detail);
      }
    }
  }
}

TEST_CASE("coded: parts of a fused tensor keep their bytes where their blocks begin with them") {
  for (const auto& [inner, kept] : {std::pair{8, true}, {6, false}}) {
    const Scratch source;
    CodedCheckpoint("qwen3_moe", 4, 3, TinyLayout::kFused, Scales::kF32, DType::kBF16, inner)
        .coded.write(source);
    const RawModel raw = load_checkpoint(source.path());
    const ExpertPlan plan = plan_of(raw, false);
    CHECK(stays_coded(raw, plan) == kept);
    const RawModel again = load_checkpoint(export_of(raw, source, plan, "out"));
    CHECK(again.config.fp8.there == kept);
    CHECK(logits_of(again, whole(again)) == logits_of(raw, plan));
  }
  // A list of modules that names experts by number would name others after the pruning.
  const Scratch source;
  CodedCheckpoint both("qwen3_moe", 4, 3);
  both.coded.config["quantization_config"]["modules_to_not_convert"] = {
      "lm_head", "model.layers.0.mlp.experts.1.up_proj"};
  both.coded.write(source);
  const RawModel raw = load_checkpoint(source.path());
  CHECK_FALSE(stays_coded(raw, plan_of(raw, false)));
}

TEST_CASE("coded: what does not fit together is refused by name") {
  const auto refuse = [](const std::string& part, auto change) {
    const Scratch scratch;
    CodedCheckpoint both("mixtral", 4, 4);
    change(both.coded);
    both.coded.write(scratch);
    check_error(ExitCode::kData, part, [&] { load_checkpoint(scratch.path()); });
  };
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  refuse(q + "_scale_inv: missing tensor",
         [&](TinyCheckpoint& tiny) { tiny.tensors.erase(q + "_scale_inv"); });
  refuse(q + "_scale_inv: wrong shape (expected [2, 2], got [2, 1])", [&](TinyCheckpoint& tiny) {
    tiny.tensors[q + "_scale_inv"] = {DType::kF32, {2, 1}, std::string(8, '\1'), Code::kNone};
  });
  refuse(q + "_scale_inv: dtype not supported (expected F32, F16, BF16 or F8_E8M0, got F8_E4M3)",
         [&](TinyCheckpoint& tiny) {
           tiny.tensors[q + "_scale_inv"] = {DType::kF32, {2, 2}, std::string(4, '\1'), Code::kE4M3};
         });
  refuse("8-bit weights that config.json does not describe",
         [](TinyCheckpoint& tiny) { tiny.config.erase("quantization_config"); });
  refuse("model.norm.weight: dtype not supported (expected F32, F16 or BF16, got F8_E4M3)",
         [](TinyCheckpoint& tiny) {
           tiny.tensors["model.norm.weight"] = {DType::kF32, {6}, std::string(6, '\1'), Code::kE4M3};
         });
  refuse("weights quantised by gptq not supported (expected fp8",
         [](TinyCheckpoint& tiny) { tiny.config["quantization_config"]["quant_method"] = "gptq"; });
  refuse("quantization_config.fmt: wrong value (expected e4m3, got \"e5m2\")",
         [](TinyCheckpoint& tiny) { tiny.config["quantization_config"]["fmt"] = "e5m2"; });
  refuse("activation_scheme: wrong value (expected dynamic",
         [](TinyCheckpoint& tiny) { tiny.config["quantization_config"]["activation_scheme"] = "static"; });
  refuse("weight_block_size: wrong value (expected two numbers",
         [](TinyCheckpoint& tiny) { tiny.config["quantization_config"]["weight_block_size"] = {4}; });
  refuse("weight_block_size[1]", [](TinyCheckpoint& tiny) {
    tiny.config["quantization_config"]["weight_block_size"] = {4, 0};
  });

  const Scratch scratch;
  CodedCheckpoint both("mixtral", 4, 4);
  both.coded.tensors[q].bytes[3] = '\x7f';
  both.coded.write(scratch);
  std::optional<RawModel> model;
  const std::vector<Check> checks = verify_directory(scratch.path(), model);
  CHECK(std::any_of(checks.begin(), checks.end(), [&](const Check& check) {
    return !check.passed && check.detail.find(q + ": element 3 is not finite") != std::string::npos;
  }));
}

TEST_CASE(
    "coded: a code that its scale makes infinite is told with its place, a large scale of small codes is "
    "not") {
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  const auto with_codes = [&](uint8_t code, float scale,
                              const std::function<void(const std::string&)>& look) {
    const Scratch scratch;
    CodedCheckpoint both("mixtral", 4, 4);
    TinyTensor& codes = both.coded.tensors[q];
    const auto columns = static_cast<size_t>(codes.shape[1]);
    std::fill(codes.bytes.begin(), codes.bytes.end(), '\0');
    codes.bytes[columns * 5 + 2] = static_cast<char>(code);
    TinyTensor& scales = both.coded.tensors[q + "_scale_inv"];
    REQUIRE(scales.dtype == DType::kF32);
    const auto blocks = static_cast<size_t>(scales.shape[1]);
    std::memcpy(scales.bytes.data() + sizeof(float) * blocks, &scale,
                sizeof scale);  // rows 4 to 7, columns 0 to 3
    both.coded.write(scratch);
    look(scratch.path());
  };
  const std::string detail = "row 5, column 2, times the scale of its block, is beyond the range of BF16";
  for (const float scale :
       {1e36f, -1e36f, 7.59e35f}) {  // 448 * 7.59e35 is finite in f32 and rounds up in bf16
    CAPTURE(scale);
    with_codes(0x7e, scale, [&](const std::string& directory) {
      const RawModel model = load_checkpoint(directory);
      check_error(ExitCode::kData, q + ": " + detail, [&] { require_finite(model); });
      std::optional<RawModel> verified;
      const std::vector<Check> checks = verify_directory(directory, verified);
      CHECK(std::any_of(checks.begin(), checks.end(), [&](const Check& check) {
        return !check.passed && check.detail.find(q + ": " + detail) != std::string::npos;
      }));
    });
  }
  with_codes(0x38, 1e36f,
             [&](const std::string& directory) { require_finite(load_checkpoint(directory)); });  // 1
  with_codes(0x7e, 7e35f, [&](const std::string& directory) { require_finite(load_checkpoint(directory)); });
}

TEST_CASE("coded: a key goes out of a config with its comma, whatever its value") {
  CHECK(without_config_key(R"({"a": 1, "q": {"x": [1, "}"]}, "b": 2})", "q") == R"({"a": 1, "b": 2})");
  CHECK(without_config_key("{\n \"a\": 1,\n \"q\": {}\n}", "q") == "{\n \"a\": 1\n}");
  CHECK(without_config_key(R"({"q": "text"})", "q") == "{}");
  CHECK(without_config_key(R"({"a": {"q": 1}})", "q") == R"({"a": {"q": 1}})");
}

}  // namespace eep
