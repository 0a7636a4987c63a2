// eep logits: full logits of token sequences, as safetensors.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <ostream>

#include "engine/forward.h"
#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "loaders/formats/file.h"
#include "loaders/formats/safetensors.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, ids, ids_file, text, plan, out, taps, against;
  bool has_text = false;
};

std::vector<NamedTensor> tensors_of(const std::vector<Tap>& taps) {
  std::vector<NamedTensor> tensors;
  for (const Tap& tap : taps)
    tensors.push_back({{tap.name, DType::kF32, {tap.rows, tap.width}}, tap.values.data()});
  return tensors;
}

// The file's values of the taps that were made.
std::vector<Tap> read_taps(const std::string& path, const std::vector<Tap>& made) {
  const SafetensorsFile file(path);
  std::vector<Tap> taps;
  for (const Tap& tap : made) {
    const SafetensorsEntry* entry = file.find(tap.name);
    if (entry == nullptr)
      throw Error(ExitCode::kData, path, "has no tap " + tap.name,
                  "compare runs of one model, plan and sequence");
    if (entry->dtype != "F32" || entry->shape.size() != 2)
      throw Error(ExitCode::kData, path + ": " + tap.name, "not a tap (expected F32 [rows, width])");
    Tap& read = taps.emplace_back(tap);
    read.rows = entry->shape[0];
    read.width = entry->shape[1];
    read.values.resize(entry->bytes / sizeof(float));
    std::memcpy(read.values.data(), file.data(*entry), entry->bytes);
  }
  return taps;
}

// A line a tap on stdout, and the first one whose difference rounding does not explain. 0: there is none,
// else 1.
int print_differences(const std::vector<TapDifference>& differences, std::ostream& out) {
  const TapDifference* first = nullptr;
  for (const TapDifference& difference : differences) {
    const std::string value = difference.choices > 0 ? fmt::format("{} choices differ", difference.choices)
                              : difference.bound > 0
                                  ? fmt::format("{:.3e} of {:.3e}", difference.relative, difference.bound)
                                  : fmt::format("{:.3e}", difference.relative);
    out << fmt::format("{:<32}{}{}\n", difference.name, value, difference.within ? "" : "  DIFFERS");
    if (!difference.within && first == nullptr) first = &difference;
  }
  out << (first == nullptr ? "no difference beyond rounding" : "first difference: " + first->name) << "\n";
  return first == nullptr ? 0 : static_cast<int>(ExitCode::kRuntime);
}

void warn_of_lost_rows(const std::vector<std::vector<float>>& values, int64_t vocabulary,
                       CommandContext& context) {
  size_t rows = 0, lost = 0;
  for (const std::vector<float>& logits : values) {
    for (auto row = logits.begin(); row != logits.end(); row += vocabulary, ++rows)
      lost += std::all_of(row, row + vocabulary, [](float logit) { return std::isfinite(logit); }) ? 0u : 1u;
  }
  if (lost > 0) {
    context.messages.warn(
        fmt::format("{} of {} positions have logits that are no numbers: values inside the model "
                    "exceed what floats hold",
                    lost, rows));
  }
}

int logits(const Arguments& arguments, CommandContext& context) {
  if (arguments.out.empty() && arguments.taps.empty() && arguments.against.empty())
    throw Error(ExitCode::kUsage, "logits", "nothing to make (expected --out, --taps or --taps-against)");
  const int sources = !arguments.ids.empty() + !arguments.ids_file.empty() + arguments.has_text;
  if (sources != 1)
    throw Error(ExitCode::kUsage, "logits", "exactly one of --ids, --ids-file and --text is needed");
  for (const std::string& file : {arguments.out, arguments.taps}) {
    if (!file.empty()) require_writable(file);
  }
  if (!arguments.against.empty())
    SafetensorsFile{arguments.against};  // a missing one is said before the work
  std::vector<std::vector<int32_t>> sequences;
  if (!arguments.ids.empty()) sequences = {parse_ids(arguments.ids)};
  if (!arguments.ids_file.empty()) sequences = read_ids_file(arguments.ids_file);
  const auto opened = open_model(arguments.model, context);
  ModelContext& model = *opened;
  if (arguments.has_text) {
    sequences = {model.tokenizer().encode(arguments.text, true)};
    if (sequences[0].empty()) throw Error(ExitCode::kData, "--text", "no tokens (expected at least 1)");
  }
  const ExpertPlan plan = plan_or_identity(arguments.plan, model);
  warn_of_no_change(plan, model.config(), arguments.plan, context);
  PopulationForward forward(model.weights(), context.options.memory);
  std::vector<std::vector<float>> values;
  std::vector<NamedTensor> tensors;
  Taps taps(model.weights().backend());
  const bool tapped = !arguments.taps.empty() || !arguments.against.empty();
  if (tapped && sequences.size() != 1)
    throw Error(ExitCode::kUsage, "--taps", "takes one sequence", "use --ids or --text");
  for (const auto& tokens : sequences)
    values.push_back(forward.logits(plan, tokens, tapped ? &taps : nullptr));
  warn_of_lost_rows(values, model.config().vocab_size, context);
  for (size_t i = 0; i < sequences.size(); ++i) {
    tensors.push_back({{fmt::format("logits.{}", i),
                        DType::kF32,
                        {static_cast<int64_t>(sequences[i].size()), model.config().vocab_size}},
                       values[i].data()});
  }
  if (!arguments.out.empty()) {
    write_safetensors(arguments.out, tensors);
    context.messages.info(fmt::format("{} sequences written to {}", sequences.size(), arguments.out));
  }
  if (!arguments.taps.empty()) {
    write_safetensors(arguments.taps, tensors_of(taps.list()));
    context.messages.info(fmt::format("{} taps written to {}", taps.list().size(), arguments.taps));
  }
  if (arguments.against.empty()) return 0;
  // The file may come from another backend: f32 weights are rounded on a GPU, and 16-bit activations
  // everywhere there.
  const double unit = model.config().dtype == DType::kF16 ? 0x1p-12 : 0x1p-9;
  const double rounding = model.config().dtype == DType::kF32 ? 2 * unit : unit;
  return print_differences(compare_taps(taps.list(), read_taps(arguments.against, taps.list()), rounding),
                           context.out);
}

}  // namespace

void register_logits(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("logits", "Full logits of token sequences",
                   "eep logits experiments/demo/mixtral --ids \"1 2 3\" --out logits.safetensors",
                   [=](CommandContext& context) { return logits(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory").required();
  command.option("--ids", arguments->ids, "token ids, \"1 2 3\"");
  command.option("--ids-file", arguments->ids_file, "JSON list of lists of ids");
  command.option("--text", arguments->text, "text to tokenize").given(arguments->has_text);
  command.option("--plan", arguments->plan, "plan file to apply");
  command.option("--out", arguments->out, "safetensors file: logits.0, logits.1, ... [tokens, vocab] f32");
  command.option("--taps", arguments->taps,
                 "safetensors file of what passes through the layers, by name, for one sequence");
  command.option("--taps-against", arguments->against,
                 "compare with such a file of another device; the first name that differs comes last");
}

}  // namespace eep
