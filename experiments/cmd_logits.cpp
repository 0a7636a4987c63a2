// eep logits: full logits of token sequences, as safetensors.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "engine/forward.h"
#include "experiments/command_inputs.h"
#include "experiments/program.h"
#include "loaders/safetensors.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, ids, ids_file, text, plan, out;
  bool has_text = false;
};

int logits(const Arguments& arguments, CommandContext& context) {
  const int sources = !arguments.ids.empty() + !arguments.ids_file.empty() + arguments.has_text;
  if (sources != 1)
    throw Error(ExitCode::kUsage, "logits", "exactly one of --ids, --ids-file and --text is needed");
  std::vector<std::vector<int32_t>> sequences;
  if (!arguments.ids.empty()) sequences = {parse_ids(arguments.ids)};
  if (!arguments.ids_file.empty()) sequences = read_ids_file(arguments.ids_file);
  ModelContext model(arguments.model, *context.options.ops, context.options.device);
  if (arguments.has_text) {
    sequences = {model.tokenizer().encode(arguments.text, true)};
    if (sequences[0].empty()) throw Error(ExitCode::kData, "--text", "no tokens (expected at least 1)");
  }
  const ExpertPlan plan = plan_or_identity(arguments.plan, model);
  PopulationForward forward(model.weights(), model.ops(), context.options.device, context.options.memory);
  std::vector<std::vector<float>> values;
  std::vector<NamedTensor> tensors;
  for (const auto& tokens : sequences) values.push_back(forward.logits(plan, tokens));
  for (size_t i = 0; i < sequences.size(); ++i) {
    tensors.push_back({{fmt::format("logits.{}", i),
                        DType::kF32,
                        {static_cast<int64_t>(sequences[i].size()), model.config().vocab_size}},
                       values[i].data()});
  }
  write_safetensors(arguments.out, tensors);
  context.messages.info(fmt::format("{} sequences written to {}", sequences.size(), arguments.out));
  return 0;
}

}  // namespace

void register_logits(CLI::App& app, const SelectCommand& select) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("logits", "Full logits of token sequences");
  command->add_option("MODEL", arguments->model, "model directory")->required();
  command->add_option("--ids", arguments->ids, "token ids, \"1 2 3\"");
  command->add_option("--ids-file", arguments->ids_file, "JSON list of lists of ids");
  CLI::Option* text = command->add_option("--text", arguments->text, "text to tokenize");
  command->add_option("--plan", arguments->plan, "plan file to apply");
  command
      ->add_option("--out", arguments->out, "safetensors file: logits.0, logits.1, ... [tokens, vocab] f32")
      ->required();
  command->footer("Example: eep logits experiments/demo/mixtral --ids \"1 2 3\" --out logits.safetensors");
  command->callback([=] {
    arguments->has_text = text->count() > 0;
    select([=](CommandContext& context) { return logits(*arguments, context); });
  });
}

}  // namespace eep
