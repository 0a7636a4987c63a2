// eep generate: greedy continuation.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <ostream>

#include "engine/forward.h"
#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/study/probe.h"
#include "loaders/formats/json.h"
#include "loaders/text/chat_template.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, prompt, ids, plan, system, chat_template, probe, against;
  std::vector<std::string> chat_set;
  bool has_prompt = false, chat = false, ignore_eos = false, print_ids = false, json = false;
  int32_t max_new = 64;
};

constexpr const char* kNoNumbers =
    "the logits are no numbers: values inside the model exceed what floats hold";

// Of decoded text, what later tokens do not change: the bytes of a character that is not whole yet show as
// U+FFFD at the end.
std::string settled(std::string text, bool whole) {
  while (!whole && text.ends_with("\ufffd")) text.resize(text.size() - 3);
  return text;
}

// The template writes the special tokens itself.
std::string chat_prompt(const Arguments& arguments, const std::string& prompt) {
  ChatTemplate chat = named_chat_template(arguments.chat_template, arguments.model);
  for (const std::string& assignment : arguments.chat_set) set_chat_variable(assignment, &chat);
  std::vector<ChatMessage> messages;
  if (!arguments.system.empty()) messages.push_back({"system", arguments.system, {}});
  messages.push_back({"user", prompt, {}});
  return render_chat(chat, messages);
}

std::vector<int32_t> encoded(const Arguments& arguments, const std::string& prompt, ModelContext& model) {
  return arguments.chat ? model.tokenizer().encode(chat_prompt(arguments, prompt), false)
                        : model.tokenizer().encode(prompt, true);
}

// The figures of a model under a plan, and under its own router and experts if the plan is another.
void add_probe(const Arguments& arguments, const std::string& directory, const std::string& plan_file,
               const std::vector<std::string>& texts, CommandContext& context,
               std::vector<ProbeColumn>* columns) {
  const auto opened = open_model(directory, context);
  ModelContext& model = *opened;
  std::vector<std::string> names{columns->empty() ? "model" : "full"};
  std::vector<ExpertPlan> plans{plan_or_identity(plan_file, model)};
  warn_of_no_change(plans[0], model.config(), plan_file, context);
  if (!plan_file.empty()) {
    names = {"plan", "full"};
    plans.push_back(plan_or_identity("", model));
  }
  std::vector<std::vector<int32_t>> prompts;
  for (size_t i = 0; i < texts.size(); ++i) {
    prompts.push_back(encoded(arguments, texts[i], model));
    if (prompts.back().empty())
      throw Error(ExitCode::kData, arguments.probe, "prompt " + std::to_string(i + 1) + " has no tokens");
  }
  const std::vector<std::vector<std::vector<int32_t>>> asked(plans.size(), prompts);
  GenerateOptions options;
  options.max_new = arguments.max_new;
  int64_t done = 0;
  options.finished = [&](int32_t, int32_t, std::span<const int32_t>) {
    context.messages.brief_progress("probe", ++done, static_cast<int64_t>(plans.size() * prompts.size()),
                                    "continuations");
  };
  std::vector<std::vector<bool>> lost(plans.size(), std::vector<bool>(prompts.size()));
  options.lost = [&](int32_t plan, int32_t sequence) {
    lost[static_cast<size_t>(plan)][static_cast<size_t>(sequence)] = true;
  };
  PopulationForward forward(model.weights(), context.options.memory);
  const auto on_token = [](int32_t, int32_t, std::span<const int32_t>) { return false; };
  const auto made = forward.generate(plans, asked, options, on_token);
  context.messages.finish_progress();
  for (size_t plan = 0; plan < plans.size(); ++plan) {
    ProbeColumn column{names[plan], {}};
    for (size_t i = 0; i < prompts.size(); ++i) {
      column.figures.push_back(probe_figures(made[plan][i], model.config().eos_token_ids));
      column.figures.back().lost = lost[plan][i];
    }
    if (const auto count = std::count(lost[plan].begin(), lost[plan].end(), true); count > 0)
      context.messages.warn(fmt::format("{}: {} of {} continuations ended where {}", names[plan], count,
                                        prompts.size(), kNoNumbers));
    columns->push_back(std::move(column));
  }
}

int probe(const Arguments& arguments, CommandContext& context) {
  const std::vector<std::string> texts = read_probes(arguments.probe);
  std::vector<ProbeColumn> columns;
  add_probe(arguments, arguments.model, arguments.plan, texts, context, &columns);
  if (!arguments.against.empty()) add_probe(arguments, arguments.against, "", texts, context, &columns);
  if (arguments.json) {
    context.out << probe_json(columns).dump(2) << "\n";
  } else {
    context.out << probe_table(columns);
  }
  return 0;
}

// What a reader of the text alone would not see: an end that is neither asked for nor the model's own.
void warn_of_end(const Arguments& arguments, const std::vector<int32_t>& prompt,
                 const std::vector<int32_t>& made, const ModelContext& model, bool lost,
                 CommandContext& context) {
  if (lost) {
    context.messages.warn(
        fmt::format("stopped after {} of {} new tokens: {}", made.size(), arguments.max_new, kNoNumbers));
    return;
  }
  const std::vector<int32_t>& ends = model.config().eos_token_ids;
  const bool ended = !made.empty() && !arguments.ignore_eos &&
                     std::find(ends.begin(), ends.end(), made.back()) != ends.end();
  if (std::ssize(made) < arguments.max_new && !ended &&
      std::ssize(prompt) + std::ssize(made) >= model.config().max_positions) {
    context.messages.warn(
        fmt::format("stopped after {} of {} new tokens: the prompt has {} and the model {} positions",
                    made.size(), arguments.max_new, prompt.size(), model.config().max_positions));
  }
}

int generate(const Arguments& arguments, CommandContext& context) {
  const int given =
      (arguments.has_prompt ? 1 : 0) + (arguments.ids.empty() ? 0 : 1) + (arguments.probe.empty() ? 0 : 1);
  if (given != 1) {
    throw Error(ExitCode::kUsage, "generate", "exactly one of --prompt, --ids and --probe is needed");
  }
  if (arguments.chat && !arguments.ids.empty()) {
    throw Error(ExitCode::kUsage, "--chat", "wraps a text (expected --prompt or --probe)");
  }
  if (!arguments.probe.empty()) return probe(arguments, context);
  const auto opened = open_model(arguments.model, context);
  ModelContext& model = *opened;
  const std::vector<int32_t> prompt =
      arguments.has_prompt ? encoded(arguments, arguments.prompt, model) : parse_ids(arguments.ids);
  if (prompt.empty()) throw Error(ExitCode::kData, "--prompt", "no tokens (expected at least 1)");
  if (!arguments.print_ids) model.tokenizer();  // one that is missing is said before the work
  const ExpertPlan plan = plan_or_identity(arguments.plan, model);
  warn_of_no_change(plan, model.config(), arguments.plan, context);
  PopulationForward forward(model.weights(), context.options.memory);
  GenerateOptions options;
  options.max_new = arguments.max_new;
  options.ignore_eos = arguments.ignore_eos;
  bool lost = false;
  options.lost = [&](int32_t, int32_t) { lost = true; };
  const std::vector<std::vector<std::vector<int32_t>>> prompts{{prompt}};
  std::string shown;
  const auto show = [&](std::span<const int32_t> ids, bool whole) {
    const std::string text = settled(model.tokenizer().decode(ids, true), whole);
    if (!text.starts_with(shown)) return;  // a later token rewrote what is printed: wait for the end
    context.out << text.substr(shown.size()) << std::flush;
    shown = text;
  };
  const auto on_token = [&](int32_t, int32_t, std::span<const int32_t> ids) {
    if (!arguments.print_ids) show(ids, false);
    return false;
  };
  const std::vector<int32_t> made = forward.generate(std::span(&plan, 1), prompts, options, on_token)[0][0];
  if (arguments.print_ids) {
    context.out << Json(made).dump() << "\n";
  } else {
    show(made, true);
    context.out << "\n";
  }
  warn_of_end(arguments, prompt, made, model, lost, context);
  return 0;
}

}  // namespace

void register_generate(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("generate", "Greedy continuation of a prompt",
                   "eep generate experiments/demo/mixtral --prompt \"Sort: d b a c\"",
                   [=](CommandContext& context) { return generate(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory").required();
  command.option("--prompt", arguments->prompt, "text").given(arguments->has_prompt);
  command.option("--ids", arguments->ids, "token ids, \"1 2 3\"");
  const Option probe = command.option(
      "--probe", arguments->probe,
      "a prompt a line, text or JSON: how many continuations loop, and their distinct 4-grams");
  command.option("--against", arguments->against, "the full model, of which MODEL is an export").needs(probe);
  command.flag("--json", arguments->json, "the figures as JSON").needs(probe);
  const Option chat = command.flag("--chat", arguments->chat, "wrap the prompt in the model's chat template");
  command
      .option("--template", arguments->chat_template,
              "another than the model's own: a name of its files, mistral-v1, chatml or none")
      .needs(chat);
  command.option("--system", arguments->system, "system message before the prompt").needs(chat);
  command.option("--chat-set", arguments->chat_set, "a variable of the template: enable_thinking=false")
      .one_value_each()
      .needs(chat);
  command.option("--max-new", arguments->max_new, "most new tokens").range(1, 1000000);
  command.flag("--ignore-eos", arguments->ignore_eos, "go on past the end of sequence");
  command.flag("--print-ids", arguments->print_ids, "print a JSON array of ids");
  command.option("--plan", arguments->plan, "plan file to apply");
}

}  // namespace eep
