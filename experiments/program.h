// The program: parses the command line, runs one command, maps every failure to one line and an exit code.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>

#include "experiments/messages.h"
#include "experiments/options.h"

namespace CLI {
class App;
}

namespace eep {

// What a command's body gets.
struct CommandContext {
  const CommonOptions& options;
  Messages& messages;
  std::ostream& out;
  const std::string& command_line;
};
using CommandBody = std::function<int(CommandContext&)>;

// Each adds its subcommand and calls `select` with its body when it was chosen on the command line.
using SelectCommand = std::function<void(CommandBody)>;
void register_inspect(CLI::App& app, const SelectCommand& select);
void register_doctor(CLI::App& app, const SelectCommand& select);
void register_tokenize(CLI::App& app, const SelectCommand& select);
void register_logits(CLI::App& app, const SelectCommand& select);
void register_generate(CLI::App& app, const SelectCommand& select);
void register_eval(CLI::App& app, const SelectCommand& select);
void register_calibrate(CLI::App& app, const SelectCommand& select);
void register_select(CLI::App& app, const SelectCommand& select);
void register_run(CLI::App& app, const SelectCommand& select);
void register_export(CLI::App& app, const SelectCommand& select);
void register_verify(CLI::App& app, const SelectCommand& select);
void register_import_coefficients(CLI::App& app, const SelectCommand& select);
void register_convert(CLI::App& app, const SelectCommand& select);

int run_program(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace eep
