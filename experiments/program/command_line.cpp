#include "experiments/program/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

// 010 and 0x10 are what C takes for 8 and 16.
std::string check_decimal(const std::string& text) {
  const size_t sign = text.starts_with('-') ? 1 : 0;
  const bool digits = text.size() > sign && text.find_first_not_of("0123456789", sign) == std::string::npos;
  if (digits && (text[sign] != '0' || text.size() == sign + 1)) return {};
  return "not a whole number as people write it (got " + text + ")";
}

Error usage_error(const CLI::App& app, const CLI::ParseError& error) {
  std::string what = error.what();
  const std::vector<std::string> rest = app.remaining();
  if (app.get_subcommands().empty() && !rest.empty() && !rest[0].starts_with('-')) {
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
    what = "unknown command" + expected_got(fmt::format("one of {}", fmt::join(names, ", ")), rest[0]);
  }
  return Error(ExitCode::kUsage, "usage", what, "see eep --help, or eep COMMAND --help");
}

// Options that name a file or a directory: an empty name is mostly a variable of the shell that is not set,
// and must not mean that the option was left out.
bool names_file(const std::string& name) {
  constexpr std::array kNames{"--out",         "--output",       "--resume",           "--plan",  "--samples",
                              "--task",        "--taps",         "--ids-file",         "--index", "--against",
                              "--calibration", "--taps-against", "--export-keep-list", "--probe", "--model"};
  return std::any_of(kNames.begin(), kNames.end(), [&](const char* known) { return name == known; });
}

}  // namespace

Option Option::required() const {
  option_->required();
  return *this;
}

Option Option::range(int64_t least, int64_t most) const {
  option_->check(CLI::Range(least, most));
  return *this;
}

Option Option::one_of(const std::vector<std::string>& values) const {
  option_->check(CLI::IsMember(values));
  return *this;
}

Option Option::shown_as(const std::vector<std::string>& values) const {
  option_->type_name(fmt::format("TEXT:{{{}}}", fmt::join(values, ",")));
  return *this;
}

Option Option::needs(const Option& other) const {
  option_->needs(other.option_);
  return *this;
}

Option Option::comma_separated() const {
  option_->delimiter(',');
  return *this;
}

Option Option::one_value_each() const {
  option_->allow_extra_args(false);
  return *this;
}

Option Option::given(bool& given) const {
  option_->each([&given](const std::string&) { given = true; });
  return *this;
}

Option Command::option(const std::string& name, std::string& value, const std::string& help) const {
  CLI::Option* const option = app_->add_option(name, value, help);
  if (names_file(name)) {
    option->check([](const std::string& given) { return given.empty() ? "an empty name" : std::string(); });
  }
  return Option(option);
}

Option Command::option(const std::string& name, int& value, const std::string& help) const {
  return Option(app_->add_option(name, value, help)->check(check_decimal));
}

Option Command::option(const std::string& name, int64_t& value, const std::string& help) const {
  return Option(app_->add_option(name, value, help)->check(check_decimal));
}

Option Command::option(const std::string& name, uint32_t& value, const std::string& help) const {
  return Option(app_->add_option(name, value, help)->check(check_decimal));
}

Option Command::option(const std::string& name, uint64_t& value, const std::string& help) const {
  return Option(app_->add_option(name, value, help)->check(check_decimal));
}

Option Command::option(const std::string& name, std::vector<int>& values, const std::string& help) const {
  return Option(app_->add_option(name, values, help)->check(check_decimal));
}

Option Command::option(const std::string& name, std::vector<std::string>& values,
                       const std::string& help) const {
  return Option(app_->add_option(name, values, help));
}

Option Command::flag(const std::string& name, bool& value, const std::string& help) const {
  return Option(app_->add_flag(name, value, help));
}

CommandLine::CommandLine(const std::string& name, const std::string& description, const std::string& version)
    : app_(std::make_unique<CLI::App>(description, name)) {
  app_->set_version_flag("--version", version);
  app_->require_subcommand(1);
  app_->fallthrough();
}

CommandLine::~CommandLine() = default;

Command CommandLine::every_command() const { return Command(app_.get()); }

Command CommandLine::command(const std::string& name, const std::string& description,
                             const std::string& example, CommandBody body) {
  CLI::App* const command = app_->add_subcommand(name, description);
  command->footer("Example: " + example);
  command->callback([this, name, body = std::move(body)] {
    chosen_ = body;
    chosen_name_ = name;
  });
  return Command(command);
}

CommandBody CommandLine::parse(int argc, const char* const* argv, std::ostream& out) {
  try {
    app_->parse(argc, const_cast<char**>(argv));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) throw usage_error(*app_, error);
    app_->exit(error, out, out);  // --help, --version
    return {};
  }
  return chosen_;
}

}  // namespace eep
