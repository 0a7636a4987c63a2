#include "experiments/program/program.h"

#include <unistd.h>

#include <cstdlib>
#include <new>
#include <ostream>

#include "engine/ops.h"
#include "experiments/study/combination.h"
#include "experiments/study/version.h"

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

// Those that --device may name.
std::string built_backends() { return std::string("cpu, ") + (cuda_built() ? "cuda, " : "") + "simt"; }

}  // namespace

int run_program(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CommandLine line(
      "eep", "eep: efficient expert pruning for sparse mixture-of-experts language models",
      std::string("eep ") + kVersion + " (" + __VERSION__ + "; backends: " + built_backends() + ")");
  CommonOptions options;
  options.add_to(line.every_command());
  for (auto add : {register_inspect, register_doctor, register_tokenize, register_logits, register_generate,
                   register_eval, register_calibrate, register_select, register_run, register_export,
                   register_verify, register_import_coefficients, register_import_keep_list, register_convert,
                   register_list, register_init, register_report, register_task, register_profile}) {
    add(line);
  }
  std::string words = "eep";
  for (int i = 1; i < argc; ++i) words += std::string(" ") + argv[i];

  const bool terminal = ::isatty(STDERR_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  CommandBody body;
  try {
    body = line.parse(argc, argv, out);
    if (!body) {
      check_written(out);
      return 0;
    }
  } catch (const Error& error) {
    Messages(err, terminal, "error").error(error);
    return static_cast<int>(error.code());
  }
  Messages messages(err, terminal, options.log_level);
  try {
    options.resolve();
    CommandContext context{options, messages, out, words};
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
