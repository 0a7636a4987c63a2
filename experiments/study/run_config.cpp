#include "experiments/study/run_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/tasks/extract.h"

namespace eep {
namespace {

// The sweep that the combinations come from: each key and its values, in their order.
std::vector<std::pair<std::string, std::vector<std::string>>> swept_values(
    const std::vector<Combination>& combinations) {
  std::vector<std::pair<std::string, std::vector<std::string>>> sweep;
  for (const Combination& combination : combinations) {
    for (const auto& [key, value] : combination.values) {
      auto entry =
          std::find_if(sweep.begin(), sweep.end(), [&name = key](const auto& e) { return e.first == name; });
      if (entry == sweep.end()) entry = sweep.insert(sweep.end(), {key, {}});
      std::vector<std::string>& values = entry->second;
      if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
    }
  }
  return sweep;
}

}  // namespace

std::string resolved_config(const std::vector<Combination>& combinations) {
  std::string text = resolved_yaml(combinations[0].experiment);
  const auto sweep = swept_values(combinations);
  if (sweep.empty()) return text;
  // Swept paths keep their spelling, which names directories and rows: they start where they did.
  const std::string& base = combinations[0].experiment.directory;
  if (std::any_of(sweep.begin(), sweep.end(), [](const auto& entry) { return names_path(entry.first); }))
    text += "paths_from: " + yaml_string(base) + "\n";
  text += "sweep:\n";
  for (const auto& [key, values] : sweep) {
    std::vector<std::string> quoted;
    for (const std::string& value : values) {
      const bool plain = value.find_first_not_of("0123456789.-+eE") == std::string::npos;
      quoted.push_back(plain ? value : yaml_string(value));
    }
    text += fmt::format("  {}: [{}]\n", key, fmt::join(quoted, ", "));
  }
  return text;
}

void check_same_config(const std::string& file, const std::string& wanted) {
  const std::string found = read_file(file);
  if (found == wanted) return;
  size_t line = 1, at = 0;
  while (at < std::min(found.size(), wanted.size()) && found[at] == wanted[at]) line += found[at++] == '\n';
  const auto line_of = [&](const std::string& text) {
    const size_t begin = at == 0                                         ? 0
                         : text.rfind('\n', at - 1) == std::string::npos ? 0
                                                                         : text.rfind('\n', at - 1) + 1;
    return strip(text.substr(std::min(begin, text.size()), text.find('\n', at) - begin));
  };
  throw Error(ExitCode::kConfig, fmt::format("{}:{}", file, line),
              "the configuration has changed" + expected_got(line_of(found), line_of(wanted)),
              "start a new run, or resume with the configuration it began with");
}

}  // namespace eep
