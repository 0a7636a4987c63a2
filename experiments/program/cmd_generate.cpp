// eep generate: greedy continuation.
#include <memory>
#include <ostream>

#include "engine/forward.h"
#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "loaders/formats/json.h"
#include "loaders/text/chat_template.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, prompt, ids, plan, system, chat_template;
  std::vector<std::string> chat_set;
  bool has_prompt = false, chat = false, ignore_eos = false, print_ids = false;
  int32_t max_new = 64;
};

// Of decoded text, what later tokens do not change: the bytes of a character that is not whole yet show as
// U+FFFD at the end.
std::string settled(std::string text, bool whole) {
  while (!whole && text.ends_with("\ufffd")) text.resize(text.size() - 3);
  return text;
}

// The template writes the special tokens itself.
std::string chat_prompt(const Arguments& arguments) {
  ChatTemplate chat = arguments.chat_template.empty()
                          ? find_chat_template(arguments.model)
                          : built_in_chat_template(arguments.chat_template, arguments.model);
  for (const std::string& assignment : arguments.chat_set) set_chat_variable(assignment, &chat);
  std::vector<ChatMessage> messages;
  if (!arguments.system.empty()) messages.push_back({"system", arguments.system});
  messages.push_back({"user", arguments.prompt});
  return render_chat(chat, messages);
}

int generate(const Arguments& arguments, CommandContext& context) {
  if (arguments.has_prompt == !arguments.ids.empty()) {
    throw Error(ExitCode::kUsage, "generate", "exactly one of --prompt and --ids is needed");
  }
  if (arguments.chat && !arguments.has_prompt) {
    throw Error(ExitCode::kUsage, "--chat", "wraps a text (expected --prompt)");
  }
  const auto opened = open_model(arguments.model, context);
  ModelContext& model = *opened;
  const std::vector<int32_t> prompt = arguments.chat ? model.tokenizer().encode(chat_prompt(arguments), false)
                                      : arguments.has_prompt
                                          ? model.tokenizer().encode(arguments.prompt, true)
                                          : parse_ids(arguments.ids);
  if (prompt.empty()) throw Error(ExitCode::kData, "--prompt", "no tokens (expected at least 1)");
  if (!arguments.print_ids) model.tokenizer();  // one that is missing is said before the work
  const ExpertPlan plan = plan_or_identity(arguments.plan, model);
  PopulationForward forward(model.weights(), model.ops(), context.options.device, context.options.memory);
  GenerateOptions options;
  options.max_new = arguments.max_new;
  options.ignore_eos = arguments.ignore_eos;
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
  const Option chat = command.flag("--chat", arguments->chat, "wrap the prompt in the model's chat template");
  command
      .option("--template", arguments->chat_template,
              "instead of the model's own: mistral-v1, chatml or none")
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
