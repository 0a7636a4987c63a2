#include "loaders/models/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include "engine/coded_matrix.h"
#include "kernels/common/expected.h"
#include "kernels/common/interrupt.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/formats/safetensors.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/config_json.h"
#include "loaders/models/export.h"
#include "loaders/models/export_config.h"
#include "loaders/models/families.h"
#include "loaders/models/finite.h"
#include "loaders/models/plan_io.h"
#include "loaders/models/scaled_range.h"
#include "loaders/text/tokenizer.h"

namespace eep {

namespace {

namespace fs = std::filesystem;

// Runs one check; what it throws is the fault, what it returns the detail.
Check check(const std::string& name, const std::function<std::string()>& body) {
  try {
    return {name, true, body()};
  } catch (const Error& error) {
    return {name, false, error.what()};
  }
}

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  throw Error(ExitCode::kData, where, what);
}

DType dtype_of(const std::string& name) {
  return name == "F32" ? DType::kF32 : name == "F16" ? DType::kF16 : DType::kBF16;
}

std::string stem_of(const std::string& directory) {
  return file_exists(join_path(directory, kNativeConfig)) ? "eep" : "model";
}

// Loaders differ on which holder of a count they read.
void check_counts(const std::string& directory, const ModelConfig& config) {
  if (!config.experts_per_layer.empty()) return;  // they hold the source's number
  const std::string path =
      join_path(directory, file_exists(join_path(directory, kNativeConfig)) ? kNativeConfig : "config.json");
  const std::string text = read_file(path);
  if (parse_json(with_expert_counts(text, config.num_experts, config.top_k), path) == parse_json(text, path))
    return;
  fail(path,
       fmt::format("its holders of the counts disagree (expected {} experts and {} active wherever they "
                   "stand, text_config included)",
                   config.num_experts, config.top_k));
}

std::string check_files(const std::string& directory, const RawModel& model) {
  std::set<std::string> used;
  for (const MappedFile& file : model.files) used.insert(fs::path(file.path()).filename().string());
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") && used.count(name) == 0) {
      fail(name, "stale file: no tensor of the model lies in it, and some loaders read it all the same");
    }
  }
  if (error) throw Error(ExitCode::kIo, directory, "cannot read the directory: " + error.message());
  const std::string stem = stem_of(directory);
  const std::string index = join_path(directory, stem + ".safetensors.index.json");
  if (!model.note.empty()) fail(index, "missing beside shards: stock loaders need it");
  if (!file_exists(index)) return fmt::format("{} file(s)", used.size());
  if (used.count(stem + ".safetensors") != 0) fail(index, "stale index beside a single file");
  size_t stored = 0;
  for (const MappedFile& file : model.files) {
    const SafetensorsHeader header = parse_safetensors(file.data(), file.size(), file.path());
    for (const SafetensorsEntry& entry : header.entries) stored += entry.bytes;
  }
  const JsonDocument document = JsonDocument::read(index);
  const JsonView total = document.root().at("metadata").at("total_size");
  if (total.as_int(0, INT64_MAX) != static_cast<int64_t>(stored)) {
    total.fail_expected(std::to_string(stored));
  }
  return fmt::format("{} shards, {} bytes of tensors", used.size(), stored);
}

std::string check_tensors(const RawModel& model) {
  size_t tensors = 0;
  const bool fused = family_row(model.config.family).gpt_oss_experts;  // as its releases are
  for (const MappedFile& file : model.files) {
    const SafetensorsHeader header = parse_safetensors(file.data(), file.size(), file.path());
    const auto is_format = [](const auto& entry) { return entry.first == "format" && entry.second == "pt"; };
    if (std::none_of(header.metadata.begin(), header.metadata.end(), is_format)) {
      fail(file.path(), "__metadata__ has no format \"pt\", which stock loaders ask for");
    }
    for (const SafetensorsEntry& entry : header.entries) {
      ++tensors;
      if (!fused && entry.name.ends_with("experts.gate_up_proj")) {
        fail(entry.name, "fused experts (expected one tensor an expert, which every loader reads)");
      }
      if (entry.name.ends_with(".rotary_emb.inv_freq")) continue;
      size_t count = 1;
      for (int64_t extent : entry.shape) count *= static_cast<size_t>(extent);
      const size_t element =
          first_not_finite(file.data() + entry.offset, count, dtype_of(entry.dtype), code_of(entry));
      if (element < count)
        fail(entry.name, not_finite_text(entry.name, entry.shape.data(), entry.shape.size(), element));
    }
  }
  if (const auto beyond = first_out_of_range(model)) fail(beyond->tensor, beyond->detail);
  return fmt::format("{} tensors, finite, {}", tensors,
                     fused ? "experts fused as in the family's releases" : "one tensor an expert");
}

std::string check_tokenizer(const std::string& directory) {
  if (!Tokenizer::exists(directory)) return "none";
  std::string text = Tokenizer::load(directory).description();
  const std::string config = join_path(directory, "tokenizer_config.json");
  if (!is_there(config)) return text;
  const JsonDocument document = JsonDocument::read(config);
  const std::string name = document.root().as_object().string_or("tokenizer_class", "");
  // TokenizersBackend, SentencePieceBackend, ...: version 4 knows no class of such a name and refuses.
  if (name.ends_with("Backend")) text += ", its class " + printable(name) + " needs transformers 5";
  return text;
}

std::string check_plan_file(const std::string& directory) {
  const std::string path = join_path(directory, "eep_plan.json");
  if (!file_exists(path)) return "none";
  const ExpertPlan plan = read_plan(path);
  const ModelConfig config = read_config(directory);
  if (stem_of(directory) == "eep") {
    const ExpertPlan stored = read_plan(join_path(directory, "plan.json"));
    if (!(stored == native_plan(plan))) fail("plan.json", "is not the plan of eep_plan.json");
    return "plan.json fits";
  }
  if (!config.experts_per_layer.empty()) {
    for (const PlanGroup& group : plan.groups) {
      for (const int32_t layer : group.layers) {
        const int64_t stored = config.experts_per_layer[static_cast<size_t>(layer)];
        if (stored == group.kept) continue;
        fail("config.json", fmt::format("wrong number of experts in layer {}", layer) +
                                expected_got(fmt::format("{} as in eep_plan.json", group.kept), stored));
      }
    }
    return fmt::format("counts by layer, up to {} experts, {} active", config.num_experts, config.top_k);
  }
  const int32_t kept = plan.groups[0].kept;
  if (kept != config.num_experts) {
    fail("config.json", "wrong number of experts" +
                            expected_got(fmt::format("{} as in eep_plan.json", kept), config.num_experts));
  }
  if (std::min(plan.top_k, kept) != config.top_k) {
    fail("config.json",
         "wrong num_experts_per_tok" +
             expected_got(fmt::format("{} as in eep_plan.json", std::min(plan.top_k, kept)), config.top_k));
  }
  return fmt::format("{} experts, {} active", kept, config.top_k);
}

ExportFormat format_of(const RawModel& exported) {
  if (!exported.config.experts_per_layer.empty()) return ExportFormat::kHfPerLayer;
  return exported.plan ? ExportFormat::kNative : ExportFormat::kHf;
}

std::string check_source_config(const std::string& directory, const std::string& source_directory,
                                const RawModel& source, const ExpertPlan& plan, ExportFormat format,
                                MtpExport mtp) {
  const std::string text = read_file(join_path(source_directory, "config.json"));
  const std::string name = format == ExportFormat::kNative ? kNativeConfig : "config.json";
  const Json stored = parse_json(read_file(join_path(directory, name)), name);
  if (format == ExportFormat::kHf && stored.contains("per_layer_num_experts"))
    format = ExportFormat::kHfPerLayer;  // whose layers all hold the same number
  const std::string expected = exported_config(text, source, plan, format, mtp);
  if (parse_json(expected, name) != stored) {
    fail(name, "differs from the source's by more than the counts of experts");
  }
  const bool plain = source.config.stored_in_codes() && !stays_coded(source, plan);
  return plain ? "the source's but for the counts and quantization_config"
               : "the source's but for the counts";
}

std::string check_side_files(const std::string& directory, const std::string& source) {
  const std::vector<std::string> names = side_files(source);
  for (const std::string& name : names) {
    if (!file_exists(join_path(directory, name))) fail(name, "missing (the source has it)");
    if (read_file(join_path(directory, name)) != read_file(join_path(source, name))) {
      fail(name, "differs from the source's");
    }
  }
  return fmt::format("{} equal the source's", names.size());
}

// Half a unit in the last place, relative, and half the smallest number of a dtype.
struct Rounding {
  double relative, absolute;
};

Rounding rounding_of(DType dtype) {
  if (dtype == DType::kF32) return {0, std::ldexp(1.0, -150)};  // the sum itself is f32: no further rounding
  if (dtype == DType::kF16) return {std::ldexp(1.0, -11), std::ldexp(1.0, -25)};
  return {std::ldexp(1.0, -8), std::ldexp(1.0, -134)};
}

// Element (row, column) of an exported gate is sum_i map[row, i] * gate[i, column] in f32, rounded once. n
// fused multiply-adds in f32 stay within n * 2^-24 / (1 - n * 2^-24) of sum |map * gate|.
std::string check_gate_rows(const RawModel& exported, const RawModel& source, const ExpertPlan& plan) {
  int64_t elements = 0;
  double worst = 0;
  for (const PlanGroup& group : plan.groups) {
    for (int32_t layer : group.layers) {
      const RawMatrix& stored = exported.layers[static_cast<size_t>(layer)].router;
      const RawMatrix& gate = source.layers[static_cast<size_t>(layer)].router;
      const Rounding rounding = rounding_of(stored.dtype);
      for (int32_t row = 0; row < group.kept; ++row) {
        const float* map = group.router_mapping.data() + int64_t{row} * group.experts;
        for (int64_t column = 0; column < gate.k; ++column, ++elements) {
          double exact = 0, size = 0;
          int terms = 0;
          for (int32_t expert = 0; expert < group.experts; ++expert) {
            if (map[expert] == 0.0f) continue;
            const double term = double{map[expert]} * double{element_of(gate, expert, column)};
            exact += term;
            size += std::fabs(term);
            ++terms;
          }
          const double n = terms * std::ldexp(1.0, -24), sum = n / (1 - n) * size;
          const double bound = sum + rounding.relative * (std::fabs(exact) + sum) +
                               terms * std::ldexp(1.0, -150) + rounding.absolute;
          const double error = std::fabs(double{element_of(stored, row, column)} - exact);
          if (!(error <= bound)) {
            fail(fmt::format("layer {}", layer),
                 fmt::format("gate row {}, column {}: {:.3g} away from the map's, more than its rounding "
                             "({:.3g})",
                             row, column, error, bound));
          }
          worst = std::max(worst, error / bound);
        }
      }
    }
  }
  return fmt::format("{} elements within their rounding (at most {:.2f} of the bound)", elements, worst);
}

std::string check_bytes(const RawModel& exported, const std::vector<StreamedTensor>& expected,
                        const ByteProgress& progress) {
  struct Place {
    SafetensorsEntry entry;
    const uint8_t* data;
  };
  std::map<std::string, Place> stored;
  for (const MappedFile& file : exported.files) {
    for (SafetensorsEntry& entry : parse_safetensors(file.data(), file.size(), file.path()).entries) {
      const uint8_t* data = file.data() + entry.offset;
      const std::string name = entry.name;
      stored.emplace(name, Place{std::move(entry), data});
    }
  }
  size_t total = 0, done = 0;
  for (const StreamedTensor& tensor : expected) total += tensor_bytes(tensor.spec);
  for (const StreamedTensor& tensor : expected) {
    check_interrupted();
    const auto found = stored.find(tensor.spec.name);
    if (found == stored.end()) fail(tensor.spec.name, "missing tensor");
    const SafetensorsEntry& entry = found->second.entry;
    if (entry.shape != tensor.spec.shape || entry.dtype != dtype_text(tensor.spec)) {
      fail(tensor.spec.name, "shape or dtype is not what the plan gives");
    }
    size_t at = 0;
    tensor.produce([&](const void* data, size_t bytes) {
      if (std::memcmp(found->second.data + at, data, bytes) != 0) {
        fail(tensor.spec.name, "bytes differ from the plan applied to the source");
      }
      at += bytes;
      done += bytes;
      if (progress) progress(done, total);
    });
  }
  return fmt::format("{} tensors equal the plan applied to the source, byte for byte", expected.size());
}

}  // namespace

std::vector<Check> verify_directory(const std::string& directory, std::optional<RawModel>& model) {
  std::vector<Check> checks;
  checks.push_back(check("config", [&] {
    const ModelConfig config = read_config(directory);
    check_counts(directory, config);
    return fmt::format("{}, {} layers, {} experts, {} active", family_name(config.family), config.num_layers,
                       config.num_experts, config.top_k);
  }));
  if (!checks.back().passed) return checks;
  checks.push_back(check("names, shapes, dtypes", [&] {
    model.emplace(load_checkpoint(directory));
    return fmt::format("{} bytes, {}", model->bytes, dtype_name(model->config.dtype));
  }));
  if (!checks.back().passed) return checks;
  checks.push_back(check("files and index", [&] { return check_files(directory, *model); }));
  checks.push_back(check("tensors", [&] { return check_tensors(*model); }));
  checks.push_back(check("tokenizer", [&] { return check_tokenizer(directory); }));
  checks.push_back(check("plan", [&] { return check_plan_file(directory); }));
  return checks;
}

std::vector<Check> verify_against(const std::string& directory, const RawModel& exported,
                                  const std::string& source_directory, const RawModel& source,
                                  const ExpertPlan& plan, const Device& device,
                                  const ByteProgress& progress) {
  const ExportFormat format = format_of(exported);
  const MtpExport mtp = mtp_of_export(exported, source);
  std::vector<Check> checks;
  checks.push_back(check("expressible", [&]() -> std::string {
    if (format == ExportFormat::kNative) return "native layout";
    const std::string obstacle = hf_obstacle(source.config, plan, format == ExportFormat::kHfPerLayer);
    if (!obstacle.empty()) fail("plan", "a stock checkpoint cannot express it: " + obstacle);
    return hf_bit_exact(plan) ? "to the last bit" : "up to rounding";
  }));
  if (!checks.back().passed) return checks;
  checks.push_back(check("source config", [&] {
    return check_source_config(directory, source_directory, source, plan, format, mtp);
  }));
  checks.push_back(check("side files", [&] { return check_side_files(directory, source_directory); }));
  if (format != ExportFormat::kNative) {
    checks.push_back(check("gate rows", [&] { return check_gate_rows(exported, source, plan); }));
  }
  checks.push_back(check("tensor bytes", [&] {
    return check_bytes(exported, export_tensors(source, plan, format, device, mtp), progress);
  }));
  return checks;
}

RawModel with_source_gates(const RawModel& exported, const RawModel& source, const ExpertPlan& plan) {
  RawModel model;
  model.config = source.config;
  model.embedding = exported.embedding;
  model.layers = exported.layers;
  for (size_t layer = 0; layer < model.layers.size(); ++layer) {
    model.layers[layer].router = source.layers[layer].router;
    model.layers[layer].router_bias = source.layers[layer].router_bias;
  }
  model.final_norm = exported.final_norm;
  model.lm_head = exported.lm_head;
  model.bytes = exported.bytes;
  model.plan = native_plan(plan);
  return model;
}

}  // namespace eep
