#include "experiments/program.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <new>
#include <ostream>

#include "experiments/combination.h"
#include "experiments/version.h"

namespace eep {
namespace {

void check_written(std::ostream& out) {
  out.flush();
  if (!out) throw Error(ExitCode::kIo, "stdout", "cannot write");
}

int run_body(const CommandBody& body, CommandContext& context) {
  const int code = body(context);
  check_written(context.out);
  return code;
}

Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string what = error.what();
  const std::vector<std::string> rest = app.remaining();
  if (app.get_subcommands().empty() && !rest.empty() && !rest[0].starts_with('-')) {
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
    what = fmt::format("unknown command (expected one of {}, got {})", fmt::join(names, ", "), rest[0]);
  }
  return Error(ExitCode::kUsage, "usage", what, "see eep --help, or eep COMMAND --help");
}

}  // namespace

int run_program(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CLI::App app{"eep: efficient expert pruning for sparse mixture-of-experts language models", "eep"};
  app.set_version_flag("--version", std::string("eep ") + kVersion + " (" + __VERSION__ + ", CPU backend)");
  app.require_subcommand(1);
  app.fallthrough();
  CommonOptions options;
  options.add_to(app);
  CommandBody body;
  const SelectCommand select = [&](CommandBody chosen) { body = std::move(chosen); };
  for (auto add : {register_inspect, register_doctor, register_tokenize, register_logits, register_generate,
                   register_eval, register_calibrate, register_select, register_run, register_export,
                   register_verify, register_import_coefficients, register_convert}) {
    add(app, select);
  }
  std::string command_line = "eep";
  for (int i = 1; i < argc; ++i) command_line += std::string(" ") + argv[i];

  const bool terminal = ::isatty(STDERR_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  try {
    app.parse(argc, const_cast<char**>(argv));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      try {
        app.exit(error, out, err);
        check_written(out);
        return 0;
      } catch (const Error& unwritable) {
        Messages(err, terminal, "error").error(unwritable);
        return static_cast<int>(unwritable.code());
      }
    }
    Messages(err, terminal, "error").error(usage_error(app, error));
    return static_cast<int>(ExitCode::kUsage);
  }
  Messages messages(err, terminal, options.log_level);
  try {
    options.resolve();
    CommandContext context{options, messages, out, command_line};
    return run_body(body, context);
  } catch (const Interrupted&) {
    messages.info("interrupted; a checkpoint is written");
    return static_cast<int>(ExitCode::kInterrupted);
  } catch (const Error& error) {
    messages.error(error);
    return static_cast<int>(error.code());
  } catch (const std::bad_alloc&) {
    messages.error(Error(ExitCode::kRuntime, "memory", "out of memory", "lower --memory"));
  } catch (const std::exception& error) {
    messages.error(Error(ExitCode::kRuntime, "internal", error.what()));
  }
  return static_cast<int>(ExitCode::kRuntime);
}

}  // namespace eep
