// The command line: one program, one command a run, options. Everything that knows the library for it (CLI11)
// is in command_line.cpp, as that header costs more to compile than a command does.
#pragma once

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace eep {

struct CommandContext;
// Runs a command; returns the exit code.
using CommandBody = std::function<int(CommandContext&)>;

// An option of a command, to say more about it: command.option(...).required(). A value; cheap to copy.
class Option {
 public:
  explicit Option(CLI::Option* option) : option_(option) {}

  Option required() const;
  Option range(int64_t least, int64_t most) const;
  Option one_of(const std::vector<std::string>& values) const;
  // The help shows them as one_of does; what they mean is checked later.
  Option shown_as(const std::vector<std::string>& values) const;
  Option needs(const Option& other) const;
  // The values of a list are one word: 4,6.
  Option comma_separated() const;
  // One value each time the option is given: --set a=1 --set b=2.
  Option one_value_each() const;
  // `given` becomes true when the option is on the command line, even with an empty value.
  Option given(bool& given) const;

 private:
  CLI::Option* option_;
};

// A command, or the program itself: what it takes. A value; cheap to copy. What an option is bound to must
// outlive the parsing. "--name" is given by name, "NAME" by position.
class Command {
 public:
  explicit Command(CLI::App* app) : app_(app) {}

  Option option(const std::string& name, std::string& value, const std::string& help) const;
  Option option(const std::string& name, int& value, const std::string& help) const;
  Option option(const std::string& name, int64_t& value, const std::string& help) const;
  Option option(const std::string& name, uint32_t& value, const std::string& help) const;
  Option option(const std::string& name, uint64_t& value, const std::string& help) const;
  Option option(const std::string& name, std::vector<int>& values, const std::string& help) const;
  Option option(const std::string& name, std::vector<std::string>& values, const std::string& help) const;
  Option flag(const std::string& name, bool& value, const std::string& help) const;

 private:
  CLI::App* app_;
};

class CommandLine {
 public:
  CommandLine(const std::string& name, const std::string& description, const std::string& version);
  ~CommandLine();

  // The options that every command takes, before or after its name.
  Command every_command() const;
  // `body` is what parse() returns when this command is chosen.
  Command command(const std::string& name, const std::string& description, const std::string& example,
                  CommandBody body);

  // The chosen command's body; none where help or the version was asked for, which is then on `out`.
  // Throws Error(kUsage).
  // Its name is chosen().
  CommandBody parse(int argc, const char* const* argv, std::ostream& out);

  const std::string& chosen() const { return chosen_name_; }

 private:
  std::unique_ptr<CLI::App> app_;
  CommandBody chosen_;
  std::string chosen_name_;
};

}  // namespace eep
