// Errors that a user can cause or meet: one line "WHERE: WHAT (expected X, got Y)", an exit code of the
// interface contract, and where one is known a hint. Our own mistakes are asserts, not Errors.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace eep {

// Exit codes of the program (docs/experiments.md).
enum class ExitCode : int {
  kOk = 0,
  kRuntime = 1,       // failed at run time
  kUsage = 2,         // wrong command line
  kData = 65,         // malformed checkpoint, data set, plan, tokenizer
  kNoInput = 66,      // an input is missing
  kIo = 74,           // read or write failed
  kConfig = 78,       // bad experiment file or setting
  kInterrupted = 130  // stopped by a signal after a checkpoint was written
};

class Error : public std::runtime_error {
 public:
  // where: file, file:line:column, tensor name or option. what: the fault with the expected and the found
  // value.
  Error(ExitCode code, const std::string& where, const std::string& what, std::string hint = {})
      : std::runtime_error(where + ": " + what), code_(code), hint_(std::move(hint)) {}

  ExitCode code() const { return code_; }
  const std::string& hint() const { return hint_; }

 private:
  ExitCode code_;
  std::string hint_;
};

}  // namespace eep
