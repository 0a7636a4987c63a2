// eep report: figures, tables and a model card out of run directories.
#include <spawn.h>
#include <sys/wait.h>

#include <cstdlib>
#include <memory>
#include <ostream>

#include "experiments/program/program.h"
#include "experiments/report/report.h"

extern char** environ;

namespace eep {
namespace {

struct Arguments {
  ReportOptions report;
  bool open = false;
};

// By what the reader opens files with: $BROWSER, or the desktop's own.
bool open_file(std::string path) {
  const char* const browser = std::getenv("BROWSER");
  std::string program = browser != nullptr && *browser != '\0' ? browser : "xdg-open";
  char* const argv[] = {program.data(), path.data(), nullptr};
  pid_t child = 0;
  if (::posix_spawnp(&child, argv[0], nullptr, nullptr, argv, environ) != 0) return false;
  int status = 0;
  return ::waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int report(const Arguments& arguments, CommandContext& context) {
  ReportOptions options = arguments.report;
  options.warn = [&](const std::string& text) { context.messages.warn(text); };
  const std::string page = write_report_files(options);
  context.out << page << "\n" << std::flush;
  if (arguments.open && !open_file(page))
    context.messages.warn("cannot open " + page + ": no browser is known (set BROWSER)");
  return 0;
}

}  // namespace

void register_report(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command =
      line.command("report", "Figures, tables and a model card of runs", "eep report runs/A runs/B",
                   [=](CommandContext& context) { return report(*arguments, context); });
  command.option("RUN_DIR", arguments->report.directories, "run directories, or those of sweeps").required();
  command
      .option(
          "--against", arguments->report.against,
          "scores to set beside: published ones, another run's result.json, results of lm-evaluation-harness")
      .one_value_each();
  command.option("--out", arguments->report.out, "directory of the report (default: the first RUN_DIR)");
  command.flag("--open", arguments->open, "show the page in a browser");
}

}  // namespace eep
