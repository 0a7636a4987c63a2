// eep init: a commented experiment file for a model and a task.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <ostream>

#include "experiments/program/command_inputs.h"
#include "experiments/program/program.h"
#include "experiments/study/experiment.h"
#include "experiments/study/experiment_template.h"
#include "loaders/formats/file.h"
#include "loaders/tasks/task.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

struct Arguments {
  std::string model, task, out;
};

std::string directory_of(const std::string& file) {
  const fs::path parent = fs::path(file).parent_path();
  return parent.empty() ? "." : parent.string();
}

std::string absolute(const std::string& path) { return fs::absolute(path).lexically_normal().string(); }

// Never over a file that is there, however it came to be there meanwhile.
void write_new(const std::string& path, const std::string& text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (file < 0 && errno == EEXIST)
    throw Error(ExitCode::kIo, path, "is there already, and stays as it is", "name another file by --out");
  if (file < 0) throw Error(ExitCode::kIo, path, std::string("cannot create: ") + std::strerror(errno));
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(file, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) break;
    done += static_cast<size_t>(wrote);
  }
  const int problem = errno;
  if (::close(file) != 0 || done < text.size()) {
    ::unlink(path.c_str());
    throw Error(ExitCode::kIo, path, std::string("cannot write: ") + std::strerror(problem));
  }
}

// The file to be written would be found in place of the task of the same name.
bool hides_task(const Arguments& arguments) {
  const std::string name = std::filesystem::path(arguments.out).filename().string();
  return name == arguments.task + ".yaml";
}

int init(const Arguments& arguments, CommandContext& context) {
  const RawModel raw = read_checkpoint(arguments.model, context);
  require_original(raw, arguments.model);
  const std::string directory = arguments.out.empty() ? "." : directory_of(arguments.out);
  const std::string file = find_task(arguments.task, ".");
  const Task task = load_task(file);
  TemplateFacts facts;
  facts.model = absolute(arguments.model);
  facts.task_name = task.name;
  // A task that the experiment's place finds by its name is called by it.
  facts.task = absolute(file);
  try {
    if (absolute(find_task(arguments.task, directory)) == facts.task &&
        arguments.task.find('/') == std::string::npos && !hides_task(arguments))
      facts.task = arguments.task;
  } catch (const Error&) {  // not from there
  }
  for (const char* split : {"train", "dev", "test"}) {
    if (task.data.count(split) != 0)
      facts.items[split] = static_cast<int64_t>(load_items(task, split).size());
    else if (split != std::string("dev"))
      throw Error(ExitCode::kConfig, file,
                  fmt::format("task {} has no {} split, which a search needs", task.name, split),
                  "add it under data:");
  }
  const std::string text = experiment_template(raw.config, facts);
  parse_experiment(text, "the new experiment", directory);  // never written where a run would refuse it
  if (arguments.out.empty()) {
    context.out << text;
    return 0;
  }
  write_new(arguments.out, text);
  context.messages.info(fmt::format("go on with: eep run {} --dry-run", arguments.out));
  context.out << arguments.out << "\n";
  return 0;
}

}  // namespace

void register_init(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command = line.command("init", "Write a commented experiment file to start from",
                                       "eep init experiments/demo/mixtral --task sort --out sort.yaml",
                                       [=](CommandContext& context) { return init(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory").required();
  command.option("--task", arguments->task, "name or path of the task").required();
  command.option("--out", arguments->out, "the file, which is never overwritten (default: standard output)");
}

}  // namespace eep
