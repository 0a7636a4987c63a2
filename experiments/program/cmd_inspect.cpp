// eep inspect: what a checkpoint is, what it weighs, and what running it takes.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "engine/memory_plan.h"
#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/study/stage_link.h"
#include "loaders/formats/json.h"
#include "loaders/models/zero_experts.h"

namespace eep {
namespace {

struct Arguments {
  std::string model;
  int pipeline = 0;
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

struct Load {
  int32_t candidates = 1;
  int64_t rows = 512;  // of the prompts of one
  int32_t merged = 0;  // experts of a layer of each
};

// Of prompts of 512 tokens, or as many as the limit allows.
MemoryPlan plan_for(const ModelConfig& config, const Ops& ops, const char* name, size_t budget,
                    const Load& load = {}) {
  MemoryRequest request;
  request.slots = static_cast<int32_t>(config.top_k);
  request.budget = budget;
  request.candidates = load.candidates;
  request.dense_experts = load.merged;
  request.weights = plan_weights(config, ops, budget);
  for (int64_t rows = std::min<int64_t>(config.max_positions, 512);; rows /= 2) {
    request.largest_tree = request.positions = rows;
    request.rows = std::max(load.rows / rows, int64_t{1}) * rows;
    try {
      MemoryPlan plan = plan_memory(config, ops, request);
      plan.device = name;  // sizes on CUDA are those of its twin on the host
      return plan;
    } catch (const Error&) {
      if (rows <= 16) throw;
    }
  }
}

Json plan_json(const MemoryPlan& plan) {
  return {{"total", plan.total()},
          {"weights", plan.weights},
          {"activations", plan.activations},
          {"scratch", plan.scratch},
          {"candidates", plan.candidates},
          {"chunk_rows", plan.chunk_rows},
          {"block_rows", plan.block_rows},
          {"merged_experts", plan.merged_experts},
          {"merged_at_once", plan.merged_at_once},
          {"streamed_layers", plan.layers.streamed_layers()},
          {"host", plan.layers.host}};
}

Json shares_json(const std::vector<StageShare>& shares) {
  Json list = Json::array();
  for (const StageShare& share : shares) {
    list.push_back({{"first_layer", share.layers.begin},
                    {"last_layer", share.layers.end - 1},
                    {"weights", share.bytes}});
  }
  return list;
}

// How matrices in 8 or 4 bits are stored; empty where there are none.
std::string coding_text(const ModelConfig& config) {
  if (config.mxfp4)
    return fmt::format("experts in MXFP4 (E2M1 with an E8M0 scale for {} columns)", kMxfp4Block);
  if (!config.fp8.there) return {};
  if (config.fp8.rows == 0) return "F8_E4M3 with a scale a matrix";
  return fmt::format("F8_E4M3 with a scale a block of {} x {}", config.fp8.rows, config.fp8.columns);
}

int inspect(const Arguments& arguments, CommandContext& context) {
  const RawModel raw = read_checkpoint(arguments.model, context);
  const ModelConfig& config = raw.config;
  const ParameterCounts counts = count_parameters(config);
  // The limit is the chosen device's; the other backend is planned without one.
  const bool on_cpu = context.options.ops->host_memory;
  const size_t memory = context.options.memory;
  const Ops& cpu_row = cpu_ops(precision_named(context.options.precision));
  std::vector<StageShare> cpu_shares, cuda_shares;
  if (arguments.pipeline > 0) {
    cpu_shares = stage_shares(config, cpu_row, arguments.pipeline);
    cuda_shares = stage_shares(config, simt_ops(), arguments.pipeline);
  }
  const MemoryPlan cpu = plan_for(config, cpu_row, "cpu", on_cpu ? memory : 0);
  const MemoryPlan cuda = plan_for(config, simt_ops(), "cuda", on_cpu ? 0 : memory);
  // What a search merges: a small population that keeps half of the experts, all rows merged.
  const Load search{8, 32768, static_cast<int32_t>((config.num_experts + 1) / 2)};
  std::optional<MemoryPlan> merging;
  std::string refused;
  try {
    merging = plan_for(config, simt_ops(), "cuda", on_cpu ? 0 : memory, search);
  } catch (const Error& error) {
    refused = error.what();
  }
  const std::string tokenizer = tokenizer_text(arguments.model);
  const std::vector<ZeroExperts> zeros = zero_experts(raw);
  if (arguments.json) {
    Json json{
        {"family", family_name(config.family)},
        {"layers", config.num_layers},
        {"sparse_layers", config.sparse_layers()},
        {"hidden_size", config.hidden_size},
        {"vocab_size", config.vocab_size},
        {"experts", config.num_experts},
        {"top_k", config.top_k},
        {"shared_expert", config.shared_intermediate_size > 0},
        {"dtype", dtype_name(config.dtype)},
        {"quantisation", config.stored_in_codes() ? Json(coding_text(config)) : Json(nullptr)},
        {"max_positions", config.max_positions},
        {"parameters", {{"total", counts.total}, {"active", counts.active}, {"experts", counts.experts}}},
        {"bytes", raw.bytes},
        {"tokenizer", tokenizer},
        {"memory",
         {{"cpu", plan_json(cpu)},
          {"cuda", plan_json(cuda)},
          {"cuda_search", merging ? plan_json(*merging) : Json(nullptr)}}}};
    if (arguments.pipeline > 0)
      json["pipeline"] = {{"cpu", shares_json(cpu_shares)}, {"cuda", shares_json(cuda_shares)}};
    if (!config.experts_per_layer.empty()) json["experts_per_layer"] = config.experts_per_layer;
    for (const ZeroExperts& zero : zeros) {
      json["zero"].push_back(
          {{"layer", zero.layer}, {"experts", zero.experts}, {"gate_rows", zero.gate_rows}});
    }
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
       fmt::format("{}{} of width {}, {} active{}", config.experts_per_layer.empty() ? "" : "up to ",
                   config.num_experts, config.expert_intermediate_size, config.top_k,
                   config.shared_intermediate_size > 0 ? ", one shared" : ""));
  for (const ZeroExperts& zero : zeros) line("zero", zero_experts_line(zero));
  line("dtype",
       dtype_name(config.dtype) + (config.stored_in_codes() ? ", stored: " + coding_text(config) : ""));
  line("parameters",
       fmt::format("{} total, {} active, {} in experts", counts.total, counts.active, counts.experts));
  line("bytes", std::to_string(raw.bytes));
  line("tokenizer", tokenizer);
  line("cpu", describe(cpu));
  line("cuda", describe(cuda));
  line("cuda, search", merging ? describe(*merging) : refused);
  if (arguments.pipeline > 0) {
    line("stages, cpu", describe(cpu_shares));
    line("stages, cuda", describe(cuda_shares));
  }
  return 0;
}

}  // namespace

void register_inspect(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("inspect", "Describe a checkpoint", "eep inspect experiments/demo/mixtral",
                   [=](CommandContext& context) { return inspect(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory").required();
  command
      .option("--pipeline", arguments->pipeline,
              "ranks that would divide the model's layers: what each would hold")
      .range(1, 1 << 20);
  command.flag("--json", arguments->json, "machine-readable");
}

}  // namespace eep
