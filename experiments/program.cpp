#include "experiments/program.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <new>
#include <ostream>

#include "experiments/combination.h"
#include "experiments/version.h"

namespace eep {
namespace {

int run_body(const CommandBody& body, CommandContext& context) {
  const int code = body(context);
  context.out.flush();
  if (!context.out) throw Error(ExitCode::kIo, "stdout", "cannot write");
  return code;
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
                   register_eval, register_calibrate, register_select, register_run}) {
    add(app, select);
  }
  std::string command_line = "eep";
  for (int i = 1; i < argc; ++i) command_line += std::string(" ") + argv[i];

  const bool terminal = ::isatty(STDERR_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  try {
    app.parse(argc, const_cast<char**>(argv));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {  // --help, --version
      app.exit(error, out, err);
      return 0;
    }
    Messages(err, terminal, "error")
        .error(Error(ExitCode::kUsage, "usage", error.what(), "see eep --help, or eep COMMAND --help"));
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
