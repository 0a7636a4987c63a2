// eep profile: tokens per second of taking prompts in and of decoding, and memory, for a model or a plan.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <memory>
#include <ostream>

#include "engine/forward.h"
#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "kernels/common/expected.h"
#include "kernels/common/philox.h"
#include "kernels/router.h"
#include "loaders/formats/json.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, plan;
  std::vector<int> batches{1, 32, 256};
  int32_t prompt = 128, made = 32, repeats = 5, top_k = 0;
  bool json = false;
};

struct Spread {
  double median = 0, least = 0, most = 0;
};

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

struct Measured {
  int batch = 0;
  Spread prefill, decode;  // tokens per second
};

// Bytes of the host's memory that the process has held at most.
int64_t peak_resident() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  }
  return 0;
}

class Profiler {
 public:
  Profiler(const Arguments& arguments, ModelContext& model, const ExpertPlan& plan,
           const CommonOptions& options)
      : arguments_(arguments), model_(model), plan_(plan), forward_(model.weights(), options.memory) {}

  // One round to warm up, then the repeats. A round: prompts and one token, then prompts and all tokens, of
  // which those count that come when every sequence has its first.
  Measured measure(int batch) {
    std::vector<double> prefill, decode;
    for (int32_t round = 0; round <= arguments_.repeats; ++round) {
      const Pass first = pass(batch, 1), all = pass(batch, arguments_.made + 1);
      if (round == 0) continue;
      prefill.push_back(static_cast<double>(batch) * arguments_.prompt / first.seconds);
      decode.push_back(static_cast<double>(all.decoded) / all.decoding_seconds);
    }
    return {batch, spread_of(prefill), spread_of(decode)};
  }

  int64_t peak_memory() const {
    return model_.ops().host_memory ? peak_resident() : static_cast<int64_t>(most_used_);
  }

 private:
  struct Pass {
    double seconds = 0, decoding_seconds = 0;
    int64_t decoded = 0;  // tokens in decoding_seconds
  };

  Pass pass(int batch, int32_t made) {
    std::vector<std::vector<std::vector<int32_t>>> prompts(1);
    for (int i = 0; i < batch; ++i) prompts[0].push_back(tokens(static_cast<uint32_t>(i)));
    GenerateOptions options;
    options.max_new = made;
    options.ignore_eos = true;
    options.lost = [](int32_t, int32_t) {  // a router that sees no numbers chooses the same experts for all
      throw Error(ExitCode::kData, "the model",
                  "its logits are no numbers: values inside it exceed what floats hold, and speeds would be "
                  "those of other work",
                  "the weights are damaged or badly scaled: eep verify MODEL");
    };
    using Clock = std::chrono::steady_clock;
    const auto since = [](Clock::time_point begin) {
      return std::chrono::duration<double>(Clock::now() - begin).count();
    };
    const Clock::time_point start = Clock::now();
    Clock::time_point decoding = start;
    int64_t taken = 0;
    int begun = 0;
    Pass pass;
    // Called for every token but a sequence's last.
    const auto watch = [&](int32_t, int32_t sequence, std::span<const int32_t> generated) {
      if (sequence == 0) note_memory();
      ++taken;
      if (generated.size() == 1 && ++begun == batch) {
        decoding = Clock::now();
        pass.decoded = -taken;
      }
      return false;
    };
    const auto result = forward_.generate(std::span(&plan_, 1), prompts, options, watch);
    pass.seconds = since(start);
    pass.decoding_seconds = since(decoding);
    for (const std::vector<int32_t>& sequence : result[0]) pass.decoded += std::ssize(sequence);
    return pass;
  }

  std::vector<int32_t> tokens(uint32_t sequence) const {
    std::vector<int32_t> ids;
    const auto vocabulary = static_cast<uint32_t>(model_.config().vocab_size);
    for (int32_t i = 0; i < arguments_.prompt; ++i)
      ids.push_back(
          static_cast<int32_t>(philox({sequence, static_cast<uint32_t>(i), 0, 0}, 15)[0] % vocabulary));
    return ids;
  }

  void note_memory() {
    if (model_.ops().host_memory) return;
    const DeviceMemory memory = model_.ops().memory(model_.weights().device());
    most_used_ = std::max(most_used_, memory.total - memory.free);
  }

  const Arguments& arguments_;
  ModelContext& model_;
  const ExpertPlan& plan_;
  PopulationForward forward_;
  size_t most_used_ = 0;
};

// Of the checkpoint that the plan describes.
int64_t weight_bytes(const ModelConfig& config, const ExpertPlan& plan) {
  const ParameterCounts counts = count_parameters(config);
  const int64_t each = counts.experts / std::max<int64_t>(config.sparse_layers() * config.num_experts, 1);
  int64_t parameters = counts.total;
  for (const PlanGroup& group : plan.groups)
    parameters -= std::ssize(group.layers) * (config.num_experts - group.kept) * each;
  return parameters * static_cast<int64_t>(dtype_size(config.dtype));
}

Json spread_json(const Spread& spread) {
  return {{"median", spread.median}, {"min", spread.least}, {"max", spread.most}};
}

int profile(const Arguments& arguments, CommandContext& context) {
  for (const int batch : arguments.batches) {
    if (batch < 1 || batch > 65536)
      throw Error(ExitCode::kUsage, "--batch", "out of range" + expected_got("1..65536", batch));
  }
  const auto opened = open_model(arguments.model, context);
  ModelContext& model = *opened;
  const ModelConfig& config = model.config();
  if (arguments.prompt + arguments.made > config.max_positions) {
    throw Error(
        ExitCode::kUsage, "--prompt",
        "prompt and new tokens are more than the model's positions" +
            expected_got(fmt::format("at most {}", config.max_positions), arguments.prompt + arguments.made));
  }
  if (arguments.top_k > config.num_experts) {
    throw Error(ExitCode::kUsage, "--top-k",
                "more than the model's experts" +
                    expected_got(fmt::format("1..{}", config.num_experts), arguments.top_k));
  }
  ExpertPlan plan = plan_or_identity(arguments.plan, model);
  if (arguments.top_k > 0) plan.top_k = arguments.top_k;
  Profiler profiler(arguments, model, plan, context.options);
  std::vector<Measured> rows;
  for (const int batch : arguments.batches) {
    context.messages.info(fmt::format("batch {}: {} + 1 rounds", batch, arguments.repeats));
    rows.push_back(profiler.measure(batch));
  }
  const int64_t weights = weight_bytes(config, plan);
  if (arguments.json) {
    Json json{{"model", arguments.model},   {"plan", arguments.plan},
              {"device", model.ops().name}, {"threads", context.options.device.threads},
              {"top_k", plan.top_k},        {"prompt", arguments.prompt},
              {"new", arguments.made},      {"repeats", arguments.repeats},
              {"weights_bytes", weights},   {"peak_memory_bytes", profiler.peak_memory()},
              {"batches", Json::array()}};
    for (const Measured& row : rows)
      json["batches"].push_back({{"batch", row.batch},
                                 {"prefill_tokens_per_second", spread_json(row.prefill)},
                                 {"decode_tokens_per_second", spread_json(row.decode)}});
    context.out << json.dump(2) << "\n";
    return 0;
  }
  const auto cell = [](const Spread& s) {
    return fmt::format("{:.1f} ({:.1f}..{:.1f})", s.median, s.least, s.most);
  };
  context.out << fmt::format("{:<7}{:<34}{}\n", "batch", "prefill tokens/s, median (range)",
                             "decode tokens/s");
  for (const Measured& row : rows)
    context.out << fmt::format("{:<7}{:<34}{}\n", row.batch, cell(row.prefill), cell(row.decode));
  context.out << fmt::format("weights {:.1f} MB, peak memory {:.1f} MB ({}, {} threads, prompt {}, new {})\n",
                             static_cast<double>(weights) / 1e6,
                             static_cast<double>(profiler.peak_memory()) / 1e6, model.ops().name,
                             context.options.device.threads, arguments.prompt, arguments.made);
  return 0;
}

}  // namespace

void register_profile(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("profile", "Speed of prefill and decoding, and memory",
                   "eep profile experiments/demo/mixtral --batch 1,32 --prompt 64 --new 16",
                   [=](CommandContext& context) { return profile(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory").required();
  command.option("--plan", arguments->plan, "plan file to apply; a merged one is merged anew in every pass");
  command.option("--top-k", arguments->top_k, "active experts instead of the model's or the plan's")
      .range(1, kMaxTopK);
  command.option("--batch", arguments->batches, "sequences at once, a list: 1,32,256").comma_separated();
  command.option("--prompt", arguments->prompt, "tokens of each prompt").range(1, 1000000);
  command.option("--new", arguments->made, "tokens to decode behind each").range(1, 1000000);
  command.option("--repeat", arguments->repeats, "rounds, after one to warm up").range(1, 1000);
  command.flag("--json", arguments->json, "machine-readable");
}

}  // namespace eep
