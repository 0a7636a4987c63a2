#include "experiments/study/probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "experiments/study/methods.h"
#include "loaders/formats/file.h"
#include "loaders/tasks/extract.h"

namespace eep {
namespace {

constexpr size_t kMaxProbes = 10000;

std::string prompt_of(const std::string& line, const std::string& path, int64_t number) {
  if (line[0] != '{' && line[0] != '"') return line;
  const Json row = parse_json(line, path, number);
  if (row.is_string()) return row.get<std::string>();
  for (const char* key : {"prompt", "text"}) {
    if (row.contains(key) && row.at(key).is_string()) return row.at(key).get<std::string>();
  }
  throw Error(ExitCode::kData, fmt::format("{}:{}", path, number),
              "no prompt (expected text, or an object with \"prompt\" or \"text\")");
}

struct Summary {
  size_t loops = 0, lost = 0;
  std::optional<double> distinct4;  // mean over the prompts that have it
};

Summary summary_of(const ProbeColumn& column) {
  Summary summary;
  double sum = 0;
  size_t count = 0;
  for (const ProbeFigures& figures : column.figures) {
    if (figures.lost) {
      ++summary.lost;
      continue;
    }
    if (figures.loops()) ++summary.loops;
    if (!figures.distinct4) continue;
    sum += *figures.distinct4;
    ++count;
  }
  if (count > 0) summary.distinct4 = sum / static_cast<double>(count);
  return summary;
}

Json optional_json(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }
std::string optional_text(const std::optional<double>& value) {
  return value ? fmt::format("{:.3f}", *value) : "-";
}

}  // namespace

std::vector<std::string> read_probes(const std::string& path) {
  const std::string text = read_file(path);
  std::vector<std::string> prompts;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string line = strip(std::string_view(text).substr(begin, end - begin));
    ++number;
    begin = end + 1;
    if (line.empty()) continue;
    prompts.push_back(prompt_of(line, path, number));
    if (prompts.back().empty())
      throw Error(ExitCode::kData, fmt::format("{}:{}", path, number), "the prompt is empty");
    if (prompts.size() > kMaxProbes)
      throw Error(ExitCode::kData, path, fmt::format("too many prompts (expected at most {})", kMaxProbes));
  }
  if (prompts.empty()) throw Error(ExitCode::kData, path, "no prompts (expected at least 1)");
  return prompts;
}

ProbeFigures probe_figures(std::span<const int32_t> generated, std::span<const int32_t> ends) {
  while (!generated.empty() && std::find(ends.begin(), ends.end(), generated.back()) != ends.end())
    generated = generated.first(generated.size() - 1);
  ProbeFigures figures;
  figures.tokens = static_cast<int64_t>(generated.size());
  if (generated.size() < 4) return figures;
  std::set<std::array<int32_t, 4>> different;
  const size_t count = generated.size() - 3;
  for (size_t i = 0; i < count; ++i)
    different.insert({generated[i], generated[i + 1], generated[i + 2], generated[i + 3]});
  figures.distinct4 = static_cast<double>(different.size()) / static_cast<double>(count);
  return figures;
}

Json probe_json(const std::vector<ProbeColumn>& columns) {
  Json models = Json::array();
  for (const ProbeColumn& column : columns) {
    const Summary summary = summary_of(column);
    Json each = Json::array();
    for (const ProbeFigures& figures : column.figures) {
      each.push_back({{"tokens", figures.tokens},
                      {"distinct4", figures.lost ? Json(nullptr) : optional_json(figures.distinct4)},
                      {"loops", figures.lost ? Json(nullptr) : Json(figures.loops())}});
    }
    const size_t counted = each.size() - summary.lost;
    const double loops = static_cast<double>(summary.loops);
    models.push_back(
        {{"name", column.name},
         {"loops", summary.loops},
         {"loop_rate", counted == 0 ? Json(nullptr) : Json(loops / static_cast<double>(counted))},
         {"distinct4", optional_json(summary.distinct4)},
         {"each", std::move(each)}});
  }
  return {{"probes", columns[0].figures.size()}, {"models", std::move(models)}};
}

std::string probe_table(const std::vector<ProbeColumn>& columns) {
  std::vector<std::vector<std::string>> rows{{"prompt"}};
  for (const ProbeColumn& column : columns) {
    for (const char* figure : {"tokens", "distinct-4", "loops"})
      rows[0].push_back(column.name + " " + figure);
  }
  for (size_t i = 0; i < columns[0].figures.size(); ++i) {
    std::vector<std::string> row{std::to_string(i + 1)};
    for (const ProbeColumn& column : columns) {
      const ProbeFigures& figures = column.figures[i];
      row.insert(row.end(),
                 {std::to_string(figures.tokens), figures.lost ? "-" : optional_text(figures.distinct4),
                  figures.lost      ? "-"
                  : figures.loops() ? "yes"
                                    : "no"});
    }
    rows.push_back(std::move(row));
  }
  std::string table = aligned(rows, 1);
  for (const ProbeColumn& column : columns) {
    const Summary summary = summary_of(column);
    table += fmt::format("{}: loop rate {}/{}, distinct-4 {}\n", column.name, summary.loops,
                         column.figures.size() - summary.lost, optional_text(summary.distinct4));
  }
  return table;
}

}  // namespace eep
