#include "experiments/program/program.h"

#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <ostream>

#include "engine/ops.h"
#include "experiments/ranks/ranks.h"
#include "experiments/study/version.h"
#include "kernels/common/interrupt.h"

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

// Those that several ranks share; any other is started once.
bool takes_ranks(const std::string& command) {
  return command == "run" || command == "calibrate" || command == "doctor";
}

RankFacts facts_of(const CommonOptions& options) {
  RankFacts facts;
  facts.threads = options.device.threads;
  facts.device = device_text(options);
  facts.device_id = device_id(options);
  facts.memory = options.memory;
  return facts;
}

// How the command ends.
std::optional<Error> run_command(const CommandBody& body, CommandContext& context, int* code) {
  try {
    try {
      *code = run_body(body, context);
      return std::nullopt;
    } catch (const Interrupted&) {
      context.messages.finish_progress();
      *code = static_cast<int>(ExitCode::kInterrupted);
      return std::nullopt;
    }
  } catch (const Error& error) {
    return error;
  } catch (const std::bad_alloc&) {
    return Error(ExitCode::kRuntime, "memory", "out of memory", "lower --memory");
  } catch (const std::exception& error) {
    return Error(ExitCode::kRuntime, "internal", error.what());
  }
}

int run_on_ranks(const CommandBody& body, CommonOptions& options, bool over_ranks, Messages& messages,
                 std::ostream& out, const std::string& words) {
  std::unique_ptr<Ranks> ranks;
  const auto on_ranks = [&](CommandContext&) {
    if (over_ranks) ranks = Ranks::join();
    if (ranks) options.place(ranks->local_rank(), ranks->local_size());
    options.resolve();
    if (ranks) ranks->introduce(facts_of(options));
    std::ostream nowhere(nullptr);
    Messages silent(nowhere, false, "error");
    CommandContext context{options, ranks && ranks->rank() > 0 ? silent : messages, out, words, ranks.get()};
    return run_body(body, context);
  };
  CommandContext context{options, messages, out, words};
  int code = 0;
  std::optional<Error> error = run_command(on_ranks, context, &code);
  // Another rank's failure is this one's; rank 0 says what went wrong, once.
  const bool stopped = code == static_cast<int>(ExitCode::kInterrupted),
             speaks = !ranks || ranks->rank() == 0;
  if (ranks && !error && stopped) error = ranks->failure();
  if (error) code = static_cast<int>(error->code());
  if (error && speaks) messages.error(*error);
  if (!error && stopped && speaks) messages.info("interrupted");
  return ranks ? ranks->leave(code, error ? &*error : nullptr) : code;
}

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
  return run_on_ranks(body, options, takes_ranks(line.chosen()), messages, out, words);
}

}  // namespace eep
