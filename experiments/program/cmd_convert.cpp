// eep convert: a GGUF file as a Hugging Face checkpoint, and a dense model as a mixture of experts.
#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "experiments/program/program.h"
#include "experiments/program/signals.h"
#include "experiments/study/version.h"
#include "kernels/router.h"
#include "loaders/formats/file.h"
#include "loaders/models/checkpoint.h"
#include "loaders/models/export_directory.h"
#include "loaders/models/families.h"
#include "loaders/models/gguf_convert.h"
#include "loaders/models/moefy.h"
#include "loaders/text/gguf_tokenizer.h"
#include "loaders/text/tokenizer.h"

namespace eep {
namespace {

constexpr size_t kShardBytes = size_t{5} << 30;
constexpr size_t kSequence = 512;  // tokens of a calibration sequence
constexpr size_t kMaxText = size_t{64} << 20;

struct Arguments {
  std::string source, out, dtype = "auto", calibration;
  int32_t experts = 0, top_k = 0;
  int64_t tokens = 2048;
};

DType parse_dtype(const std::string& name, const GgufFile& file) {
  if (name == "f32") return DType::kF32;
  if (name == "f16") return DType::kF16;
  return name == "bf16" ? DType::kBF16 : gguf_natural_dtype(file);
}

void write_json(const ExportDirectory& directory, const std::string& name, const Json& json, int indent = 2) {
  write_file_atomic(directory.file(name),
                    json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n");
}

// Tokenizer, its special tokens and the ids that generation needs.
void write_tokenizer(const GgufFile& file, const Json& config, const ExportDirectory& directory) {
  const GgufTokenizer tokenizer = gguf_tokenizer(file);
  write_json(directory, "tokenizer.json", tokenizer.tokenizer, 1);
  write_json(directory, "tokenizer_config.json", tokenizer.config);
  Json generation = Json::object();
  for (const char* key : {"bos_token_id", "eos_token_id"}) {
    if (config.contains(key)) generation[key] = config[key];
  }
  write_json(directory, "generation_config.json", generation);
}

void write_provenance(const Arguments& arguments, const GgufFile& file, const ExportDirectory& directory) {
  Json provenance{{"format", "eep-convert"},
                  {"version", 1},
                  {"program", std::string("eep ") + kVersion},
                  {"source", std::filesystem::path(arguments.source).filename().string()}};
  for (const char* key : {"general.name", "general.license"}) {
    if (file.find_value(key) != nullptr) provenance[key] = file.text(key);
  }
  if (arguments.experts > 0) {
    provenance["experts"] = arguments.experts;
    provenance["top_k"] = arguments.top_k;
    provenance["calibration_tokens"] = arguments.calibration.empty() ? 0 : arguments.tokens;
  }
  write_json(directory, "eep_provenance.json", provenance);
}

std::vector<std::vector<int32_t>> calibration_sequences(const Arguments& arguments,
                                                        const std::string& directory) {
  std::vector<std::vector<int32_t>> sequences;
  if (arguments.calibration.empty()) return sequences;
  const std::vector<int32_t> ids =
      Tokenizer::load(directory).encode(read_file(arguments.calibration, kMaxText), false);
  const size_t count = std::min(ids.size(), static_cast<size_t>(arguments.tokens));
  if (count == 0) throw Error(ExitCode::kData, arguments.calibration, "no tokens (expected at least 1)");
  for (size_t at = 0; at < count; at += kSequence) {
    sequences.emplace_back(ids.begin() + static_cast<int64_t>(at),
                           ids.begin() + static_cast<int64_t>(std::min(at + kSequence, count)));
  }
  return sequences;
}

ByteProgress bytes_progress(CommandContext& context) {
  return [&context](size_t done, size_t total) { context.messages.byte_progress("convert", done, total); };
}

// The dense model is written first, as one expert a layer, and read back: what is split is what was stored.
void write_mixture(const Arguments& arguments, ConvertedModel& model, const ExportDirectory& directory,
                   CommandContext& context) {
  if (!model.dense_llama) {
    throw Error(ExitCode::kUsage, "--moefy", "the model already has experts (expected a dense llama)");
  }
  make_one_expert(model);
  const std::string dense = directory.file("dense");
  std::filesystem::create_directory(dense);
  write_file_atomic(dense + "/config.json", model.config.dump(2) + "\n");
  write_shards(dense, "model", model.tensors, kShardBytes, bytes_progress(context));
  MoefyOptions options;
  options.experts = arguments.experts;
  options.top_k = arguments.top_k;
  options.device = context.options.device;
  options.memory = context.options.memory;
  options.progress = [&](int64_t done, int64_t total) {
    context.messages.progress("split", done, total, "layers");
  };
  {
    const RawModel raw = load_checkpoint(dense);
    const std::vector<MoefyLayer> layers =
        split_neurons(raw, cpu_ops(precision_named(context.options.precision)),
                      calibration_sequences(arguments, directory.path()), options);
    model.config["num_local_experts"] = arguments.experts;
    model.config["num_experts_per_tok"] = arguments.top_k;
    model.config["intermediate_size"] = raw.config.expert_intermediate_size / arguments.experts;
    write_shards(directory.path(), "model", moefy_tensors(raw, layers, options), kShardBytes,
                 bytes_progress(context));
  }
  std::filesystem::remove_all(dense);
}

int convert(const Arguments& given, CommandContext& context) {
  const StopSignal stoppable;
  Arguments arguments = given;
  if (arguments.experts > 0 && arguments.top_k == 0) arguments.top_k = arguments.experts;
  const MappedFile source(arguments.source);
  const GgufFile file = parse_gguf(source.data(), source.size(), arguments.source);
  ConvertedModel model = convert_gguf(file, parse_dtype(arguments.dtype, file));
  ExportDirectory directory(arguments.out);
  const char* const kind = "tokenizer.ggml.model";
  if (file.find_value(kind) != nullptr && file.text(kind) != "none") {
    write_tokenizer(file, model.config, directory);
  } else {
    context.messages.warn("the file has no tokenizer: the checkpoint takes token ids alone");
  }
  if (arguments.experts > 0) {
    write_mixture(arguments, model, directory, context);
  } else {
    write_shards(directory.path(), "model", model.tensors, kShardBytes, bytes_progress(context));
  }
  write_file_atomic(directory.file("config.json"), model.config.dump(2) + "\n");
  write_provenance(arguments, file, directory);
  directory.commit();
  context.messages.finish_progress();
  if (model.dense_llama) {
    context.messages.info("a dense model: eep runs mixtures of experts, which --moefy E makes of it");
  }
  context.out << arguments.out << "\n";
  return 0;
}

// As general.architecture of a file spells them.
std::string architectures() {
  std::vector<std::string_view> names;
  for (const FamilyRow& row : families()) {
    if (!row.gguf.empty()) names.push_back(row.gguf);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

void register_convert(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("convert", "A GGUF file as a Hugging Face checkpoint",
                   "eep convert model.gguf --out model --moefy 8 --top-k 4 --calibration text.txt",
                   [=](CommandContext& context) { return convert(*arguments, context); });
  command.option("SOURCE", arguments->source, "GGUF file: " + architectures()).required();
  command.option("--out", arguments->out, "directory to make").required();
  command.option("--dtype", arguments->dtype, "auto, f32, f16 or bf16 (default: as stored, else bf16)")
      .one_of({"auto", "f32", "f16", "bf16"});
  const Option experts =
      command.option("--moefy", arguments->experts, "split a dense model's FFNs into this many experts")
          .range(1, kMaxExperts);
  command
      .option("--top-k", arguments->top_k,
              "active experts (default: all, which computes what the dense model does)")
      .range(1, kMaxTopK)
      .needs(experts);
  const Option text =
      command.option("--calibration", arguments->calibration, "text that shows which neurons act together")
          .needs(experts);
  command.option("--tokens", arguments->tokens, "tokens of it that are used (default: 2048)")
      .range(1, 1 << 20)
      .needs(text);
}

}  // namespace eep
