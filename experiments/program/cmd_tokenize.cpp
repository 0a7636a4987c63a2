// eep tokenize: text to ids and back.
#include <iostream>
#include <iterator>
#include <memory>

#include "experiments/program/program.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/text/tokenizer.h"

namespace eep {
namespace {

struct Arguments {
  std::string model, text, file;
  std::string dash;
  bool lines = false, no_special = false, decode = false;
  bool has_text = false;
};

std::string input_of(const Arguments& arguments) {
  if (arguments.has_text) return arguments.text;
  if (!arguments.file.empty() && arguments.file != "-") return read_file(arguments.file);
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

std::string convert(const Tokenizer& tokenizer, const Arguments& arguments, std::string_view text) {
  if (!arguments.decode) return Json(tokenizer.encode(text, !arguments.no_special)).dump();
  const JsonDocument document(std::string(text), "ids");
  const JsonView list = document.root().as_array();
  std::vector<int32_t> ids;
  for (size_t i = 0; i < list.size(); ++i)
    ids.push_back(static_cast<int32_t>(list.at(i).as_int(0, tokenizer.vocab_size() - 1)));
  return tokenizer.decode(ids, arguments.no_special);
}

int tokenize(const Arguments& arguments, CommandContext& context) {
  const int sources =
      (arguments.has_text ? 1 : 0) + (arguments.file.empty() ? 0 : 1) + (arguments.dash.empty() ? 0 : 1);
  if (sources != 1)
    throw Error(ExitCode::kUsage, "tokenize", "exactly one of --text, --file and - is needed");
  if (!arguments.dash.empty() && arguments.dash != "-")
    throw Error(ExitCode::kUsage, "tokenize", "unexpected argument " + arguments.dash);
  const Tokenizer tokenizer = Tokenizer::load(arguments.model);
  const std::string text = input_of(arguments);
  if (!arguments.lines) {
    context.out << convert(tokenizer, arguments, text) << "\n";
    return 0;
  }
  for (size_t begin = 0; begin < text.size();) {
    size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    context.out << convert(tokenizer, arguments, std::string_view(text).substr(begin, end - begin)) << "\n";
    begin = end + 1;
  }
  return 0;
}

}  // namespace

void register_tokenize(CommandLine& line) {
  auto arguments = std::make_shared<Arguments>();
  const Command command = line.command(
      "tokenize", "Text to token ids, or back", "eep tokenize experiments/demo/mixtral --text \"Sort: b a\"",
      [=](CommandContext& context) { return tokenize(*arguments, context); });
  command.option("MODEL", arguments->model, "model directory").required();
  command.option("INPUT", arguments->dash, "- for standard input");
  command.option("--text", arguments->text, "the text").given(arguments->has_text);
  command.option("--file", arguments->file, "a file with the text");
  command.flag("--lines", arguments->lines, "one array a line of input");
  command.flag("--no-special", arguments->no_special, "add no special tokens; with --decode leave them out");
  command.flag("--decode", arguments->decode, "the input is an array of ids; print the text");
}

}  // namespace eep
