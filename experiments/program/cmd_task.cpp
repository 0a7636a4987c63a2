// eep task: raw downloads of known benchmarks to data and a task file; what is known, and what is there.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <ostream>

#include "experiments/program/program.h"
#include "experiments/program/signals.h"
#include "experiments/study/experiment.h"
#include "loaders/formats/json.h"
#include "loaders/tasks/import.h"
#include "loaders/tasks/task.h"

namespace eep {
namespace {

struct Arguments {
  std::string action, name, out, index, shares;
  std::vector<std::string> files;
  bool json = false;
};

int import(const Arguments& arguments, CommandContext& context) {
  const StopSignal stoppable;  // what is written so far goes
  if (arguments.name.empty())
    throw Error(ExitCode::kUsage, "task import", "a name is needed (eep task list)");
  const KnownTask& task = find_known_task(arguments.name);
  if (arguments.files.empty()) {
    throw Error(ExitCode::kUsage, "task import",
                fmt::format("no files of {} (expected {})", task.name, task.files));
  }
  if (arguments.out.empty()) throw Error(ExitCode::kUsage, "task import", "--out DIR is needed");
  ImportOptions options;
  options.files = arguments.files;
  options.out = arguments.out;
  options.index = arguments.index;
  if (!arguments.shares.empty()) options.shares = parse_shares(arguments.shares);
  options.task_file = find_task(std::string(task.name), "experiments/tasks");
  const ImportResult result = import_task(task, options);
  for (const std::string& remark : result.remarks) context.messages.warn(remark);
  if (arguments.json) {
    context.out << Json{{"task", task.name}, {"task_file", result.task_file}, {"splits", result.splits}}.dump(
                       2)
                << "\n";
    return 0;
  }
  for (const auto& [split, items] : result.splits) context.out << fmt::format("{:<15}{}\n", split, items);
  context.out << result.task_file << "\n";
  return 0;
}

// The splits whose files are there, and those that are missing, as the task file looks for them.
struct Present {
  std::vector<std::string> there, missing;
};

Present present(const KnownTask& known) {
  Present result;
  const Task task = load_task(find_task(std::string(known.name), "experiments/tasks"));
  for (const auto& [split, path] : task.data) {
    try {
      data_file(task, split);
      result.there.push_back(split);
    } catch (const Error&) {
      result.missing.push_back(split);
    }
  }
  return result;
}

int list(const Arguments& arguments, CommandContext& context) {
  Json all = Json::array();
  for (const KnownTask& task : known_tasks()) {
    const Present data = present(task);
    if (arguments.json) {
      all.push_back({{"name", task.name},
                     {"words", task.words},
                     {"layout", raw_layout(task.layouts[0]).name},
                     {"files", task.files},
                     {"there", data.there},
                     {"missing", data.missing}});
      continue;
    }
    context.out << fmt::format("{:<14} {:<62} {}\n", task.name, task.words, task.files);
    if (!data.there.empty())
      context.out << fmt::format("{:<14} there: {}\n", "", fmt::join(data.there, ", "));
    if (!data.there.empty() && !data.missing.empty())
      context.out << fmt::format("{:<14} missing: {}\n", "", fmt::join(data.missing, ", "));
  }
  if (arguments.json) {
    context.out << all.dump(2) << "\n";
    return 0;
  }
  const char* data = std::getenv("EEP_DATA");
  context.out << (data == nullptr
                      ? "EEP_DATA is not set: it names the directory that eep task import wrote to\n"
                      : fmt::format("EEP_DATA={}\n", data));
  return 0;
}

int task(const Arguments& arguments, CommandContext& context) {
  return arguments.action == "import" ? import(arguments, context) : list(arguments, context);
}

}  // namespace

void register_task(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command = line.command("task", "Benchmarks: import raw downloads, list what is known",
                                       "eep task import boolq train.jsonl val.jsonl --out data",
                                       [=](CommandContext& context) { return task(*arguments, context); });
  command.option("ACTION", arguments->action, "what to do").required().one_of({"import", "list"});
  command.option("NAME", arguments->name, "import: the benchmark");
  command.option("FILE", arguments->files,
                 "import: its files or folders; SPLIT=FILE where a name does not tell the split");
  command.option("--out", arguments->out, "import: directory for NAME.yaml and NAME/SPLIT.jsonl");
  command.option("--index", arguments->index, "import: a JSON list of the items that are the test split");
  command.option("--hash", arguments->shares, "import: shares by hash, train=80,dev=10,test=10");
  command.flag("--json", arguments->json, "machine-readable");
}

}  // namespace eep
