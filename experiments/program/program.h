// The program: parses the command line, runs one command, maps every failure to one line and an exit code.
#pragma once

#include <iosfwd>
#include <string>

#include "experiments/program/command_line.h"
#include "experiments/program/messages.h"
#include "experiments/program/options.h"

namespace eep {

class Ranks;

// What a command's body gets.
struct CommandContext {
  const CommonOptions& options;
  Messages& messages;
  std::ostream& out;
  const std::string& command_line;
  Ranks* ranks = nullptr;  // where the program is one of several; of run, calibrate and doctor alone
};

// Each adds its command; program.cpp lists them.
void register_inspect(CommandLine& line);
void register_doctor(CommandLine& line);
void register_tokenize(CommandLine& line);
void register_logits(CommandLine& line);
void register_generate(CommandLine& line);
void register_eval(CommandLine& line);
void register_calibrate(CommandLine& line);
void register_select(CommandLine& line);
void register_run(CommandLine& line);
void register_init(CommandLine& line);
void register_report(CommandLine& line);
void register_export(CommandLine& line);
void register_verify(CommandLine& line);
void register_import_coefficients(CommandLine& line);
void register_import_keep_list(CommandLine& line);
void register_convert(CommandLine& line);
void register_list(CommandLine& line);
void register_task(CommandLine& line);
void register_profile(CommandLine& line);

int run_program(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace eep
