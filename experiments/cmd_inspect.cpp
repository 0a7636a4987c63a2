// eep inspect: what a checkpoint is, what it weighs, and what running it takes.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "engine/memory_plan.h"
#include "experiments/model_context.h"
#include "experiments/program.h"
#include "loaders/json.h"

namespace eep {
namespace {

struct Arguments {
  std::string model;
  bool json = false;
};

std::string tokenizer_text(const std::string& path) {
  if (!Tokenizer::exists(path)) return "none";
  try {
    return Tokenizer::load(path).description();
  } catch (const Error& error) {
    return std::string("unusable: ") + error.what();
  }
}

int inspect(const Arguments& arguments, CommandContext& context) {
  const RawModel raw = load_checkpoint(arguments.model);
  const ModelConfig& config = raw.config;
  const ParameterCounts counts = count_parameters(config);
  MemoryRequest request;
  request.rows = request.largest_tree = std::min<int64_t>(config.max_positions, 512);
  request.wanted = 1;
  request.slots = static_cast<int32_t>(config.top_k);
  request.budget = context.options.memory;
  const MemoryPlan plan = plan_memory(config, *context.options.ops, request);
  const std::string tokenizer = tokenizer_text(arguments.model);
  if (arguments.json) {
    const Json json{
        {"family", family_name(config.family)},
        {"layers", config.num_layers},
        {"sparse_layers", config.sparse_layers()},
        {"hidden_size", config.hidden_size},
        {"vocab_size", config.vocab_size},
        {"experts", config.num_experts},
        {"top_k", config.top_k},
        {"shared_expert", config.shared_intermediate_size > 0},
        {"dtype", dtype_name(config.dtype)},
        {"max_positions", config.max_positions},
        {"parameters", {{"total", counts.total}, {"active", counts.active}, {"experts", counts.experts}}},
        {"bytes", raw.bytes},
        {"tokenizer", tokenizer},
        {"memory",
         {{"cpu",
           {{"total", plan.total()},
            {"weights", plan.weights},
            {"activations", plan.activations},
            {"scratch", plan.scratch}}},
          {"cuda", nullptr}}}};
    context.out << json.dump(2) << "\n";
    return 0;
  }
  const auto line = [&](const char* name, const std::string& value) {
    context.out << fmt::format("{:<14}{}\n", name, value);
  };
  line("family", family_name(config.family));
  line("layers", fmt::format("{} ({} with experts)", config.num_layers, config.sparse_layers()));
  line("hidden", fmt::format("{}, {} heads of {}, {} key/value heads", config.hidden_size, config.num_heads,
                             config.head_dim, config.num_kv_heads));
  line("experts",
       fmt::format("{} of width {}, {} active{}", config.num_experts, config.expert_intermediate_size,
                   config.top_k, config.shared_intermediate_size > 0 ? ", one shared" : ""));
  line("dtype", dtype_name(config.dtype));
  line("parameters",
       fmt::format("{} total, {} active, {} in experts", counts.total, counts.active, counts.experts));
  line("bytes", std::to_string(raw.bytes));
  line("tokenizer", tokenizer);
  line("cpu", describe(plan));
  line("cuda", "this build has no CUDA backend");
  return 0;
}

}  // namespace

void register_inspect(CLI::App& app, const SelectCommand& select) {
  auto arguments = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand("inspect", "Describe a checkpoint");
  command->add_option("MODEL", arguments->model, "model directory")->required();
  command->add_flag("--json", arguments->json, "machine-readable");
  command->footer("Example: eep inspect experiments/demo/mixtral");
  command->callback([=] { select([=](CommandContext& context) { return inspect(*arguments, context); }); });
}

}  // namespace eep
