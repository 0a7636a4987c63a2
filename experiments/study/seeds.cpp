#include "experiments/study/seeds.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <map>

#include "loaders/formats/file.h"
#include "loaders/tasks/statistics.h"

namespace eep {
namespace {

// The two-sided 95% point of Student's t; a little wide between the tabulated degrees of freedom.
double student_quantile(size_t freedom) {
  static constexpr double kTable[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                                      2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086};
  if (freedom == 0) return 0;
  if (freedom <= std::size(kTable)) return kTable[freedom - 1];
  return freedom < 30 ? kTable[std::size(kTable) - 1] : freedom < 60 ? 2.042 : freedom < 120 ? 2.000 : 1.980;
}

struct Cell {
  Json row;
  std::vector<double> scores, train, dev, seconds;
  std::vector<double> p_vs_full, p_vs_prune;  // of the runs themselves
  std::vector<const RunRow*> runs;
};

bool is_searched(const std::string& method) {
  return method.starts_with("eep_") || method.starts_with("control_") || method.starts_with("pareto_");
}

// Scores of the items of samples files; each file is read once, however many methods it is compared with.
class SampleScores {
 public:
  // [items], empty where the file is not there.
  const std::vector<double>& of(const std::string& file) {
    const auto [at, fresh] = scores_.try_emplace(file);
    if (!fresh || !file_exists(file)) return at->second;
    const std::string text = read_file(file);
    size_t begin = 0;
    for (size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const auto number = static_cast<int64_t>(at->second.size()) + 1;
      const Json line = parse_json(std::string_view(text).substr(begin, end - begin), file, number);
      at->second.push_back(line.at("score").get<double>());
    }
    return at->second;
  }

 private:
  std::map<std::string, std::vector<double>> scores_;
};

// Scores of a method's test items, averaged over the runs; empty where a run's samples are not there.
std::vector<double> item_scores(const Cell& cell, const std::string& method, SampleScores& samples) {
  std::vector<double> sums;
  for (const RunRow* run : cell.runs) {
    if (run->directory.empty()) return {};
    const std::vector<double>& scores = samples.of(run->directory + "/samples/" + method + ".jsonl");
    if (scores.empty()) return {};
    if (sums.size() < scores.size()) sums.resize(scores.size(), 0.0);
    for (size_t item = 0; item < scores.size(); ++item)
      sums[item] += scores[item] / static_cast<double>(cell.runs.size());
  }
  return sums;
}

Json pooled_p(const Cell& cell, const std::string& method, const std::string& other,
              const std::vector<double>& own, SampleScores& samples) {
  if (method == other) return nullptr;
  if (own.size() == 1) return own[0];
  const std::vector<double> a = item_scores(cell, method, samples), b = item_scores(cell, other, samples);
  if (a.empty() || a.size() != b.size()) return nullptr;
  return paired_permutation(a, b, 1);
}

// Holm's step-down correction of `key` over all cells that have it, as `holm` + the key without its p.
void correct(Json& summary, const std::string& key) {
  std::vector<Json*> cells;
  for (Json& cell : summary) {
    if (cell.contains(key) && !cell.at(key).is_null()) cells.push_back(&cell);
  }
  std::stable_sort(cells.begin(), cells.end(),
                   [&](Json* a, Json* b) { return a->at(key).get<double>() < b->at(key).get<double>(); });
  double least = 0.0;
  for (size_t i = 0; i < cells.size(); ++i) {
    const double corrected = cells[i]->at(key).get<double>() * static_cast<double>(cells.size() - i);
    least = std::max(least, std::min(1.0, corrected));
    (*cells[i])["holm" + key.substr(1)] = least;
  }
}

Json mean_or_null(const std::vector<double>& values) {
  return values.empty() ? Json(nullptr) : Json(mean(values));
}

std::string percent(const Json& cell) { return fmt::format("{:.1f}", 100 * cell.at("mean").get<double>()); }

std::string p_text(const Json& cell, const char* key) {
  return cell.contains(key) && !cell.at(key).is_null() ? fmt::format("{:.1g}", cell.at(key).get<double>())
                                                       : "-";
}

}  // namespace

Json seeds_summary(std::span<const RunRow> runs) {
  std::vector<Cell> cells;
  SampleScores samples;
  for (const RunRow& run : runs) {
    for (const Json& method : run.result.at("methods")) {
      if (method.at("test").is_null()) continue;
      const Json row{{"task", run.result.at("task").at("name")},
                     {"run", run.label_without_seed},
                     {"method", method.at("name")},
                     {"experts", method.at("experts")}};
      auto cell =
          std::find_if(cells.begin(), cells.end(), [&](const Cell& known) { return known.row == row; });
      if (cell == cells.end()) {
        cells.emplace_back();
        cell = cells.end() - 1;
        cell->row = row;
      }
      const Json& test = method.at("test");
      cell->scores.push_back(test.at("score").get<double>());
      const auto add = [&](const Json& from, const char* key, std::vector<double>* to) {
        if (from.is_object() && from.contains(key) && !from.at(key).is_null())
          to->push_back(from.at(key).get<double>());
      };
      add(method.value("train", Json()), "score", &cell->train);
      add(method.value("dev", Json()), "score", &cell->dev);
      add(method, "seconds", &cell->seconds);
      add(test, "p_vs_full", &cell->p_vs_full);
      add(test, "p_vs_prune", &cell->p_vs_prune);
      cell->runs.push_back(&run);
    }
  }
  Json summary = Json::array();
  for (Cell& cell : cells) {
    const size_t n = cell.scores.size();
    const double middle = mean(cell.scores);
    const double half = standard_error(cell.scores) * student_quantile(n - 1);
    cell.row["seeds"] = n;
    cell.row["mean"] = middle;
    cell.row["ci95"] =
        n < 2 ? Json(nullptr) : Json{std::max(0.0, middle - half), std::min(1.0, middle + half)};
    cell.row["train"] = mean_or_null(cell.train);
    cell.row["dev"] = mean_or_null(cell.dev);
    cell.row["seconds"] = mean_or_null(cell.seconds);
    const std::string method = cell.row.at("method").get<std::string>();
    if (is_searched(method)) {
      cell.row["p_vs_full"] = pooled_p(cell, method, "full", cell.p_vs_full, samples);
      cell.row["p_vs_prune"] = pooled_p(cell, method, "eep_prune", cell.p_vs_prune, samples);
    }
    summary.push_back(std::move(cell.row));
  }
  correct(summary, "p_vs_full");
  correct(summary, "p_vs_prune");
  return summary;
}

std::string seeds_table(const Json& summary) {
  const bool labelled =
      std::any_of(summary.begin(), summary.end(), [](const Json& row) { return row.at("run") != ""; });
  std::vector<std::vector<std::string>> rows{{"task"}};
  if (labelled) rows[0].push_back("run");
  for (const char* column : {"method", "experts", "seeds", "mean test % [95% interval]"})
    rows[0].push_back(column);
  for (const Json& cell : summary) {
    std::vector<std::string> row{cell.at("task").get<std::string>()};
    if (labelled) row.push_back(cell.at("run").get<std::string>());
    std::string score = fmt::format("{:.1f}", 100 * cell.at("mean").get<double>());
    if (!cell.at("ci95").is_null()) {
      score += fmt::format(" [{:.1f}, {:.1f}]", 100 * cell.at("ci95")[0].get<double>(),
                           100 * cell.at("ci95")[1].get<double>());
    }
    row.insert(row.end(),
               {cell.at("method").get<std::string>(), std::to_string(cell.at("experts").get<int64_t>()),
                std::to_string(cell.at("seeds").get<int64_t>()), score});
    rows.push_back(std::move(row));
  }
  return aligned(rows, labelled ? 3 : 2);
}

std::string compact_table(const Json& summary, const std::string& algorithm, bool full_models) {
  struct Row {
    std::string task, run;
    int64_t experts = 0;
    std::map<std::string, const Json*> methods;
    const Json* best = nullptr;  // one-shot
  };
  std::vector<Row> rows;
  std::map<std::pair<std::string, std::string>, const Json*> full;
  std::vector<std::string> controls;
  for (const Json& cell : summary) {
    const std::string task = cell.at("task").get<std::string>(), run = cell.at("run").get<std::string>();
    const std::string method = cell.at("method").get<std::string>();
    if (method.starts_with("pareto_")) continue;  // of other budgets
    if (method.starts_with("full")) {
      full.try_emplace({task, run}, &cell);
      continue;
    }
    const auto experts = cell.at("experts").get<int64_t>();
    auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& known) {
      return known.task == task && known.run == run && known.experts == experts;
    });
    if (row == rows.end()) row = rows.insert(rows.end(), Row{task, run, experts, {}, nullptr});
    if (is_searched(method)) {
      row->methods[method] = &cell;
      if (method.starts_with("control_") &&
          std::find(controls.begin(), controls.end(), method) == controls.end())
        controls.push_back(method);
    } else if (method != "random" && (row->best == nullptr || cell.at("mean") > row->best->at("mean"))) {
      row->best = &cell;
    }
  }
  const bool labelled =
      std::any_of(rows.begin(), rows.end(), [](const Row& row) { return !row.run.empty(); });
  std::vector<std::vector<std::string>> lines{{"task"}};
  if (labelled) lines[0].push_back("run");
  const std::string whole = full_models ? "unpruned" : "full";
  for (const std::string& column :
       {std::string("experts"), whole, std::string("best one-shot"), std::string("prune")})
    lines[0].push_back(column);
  for (const std::string& control : controls) lines[0].push_back(control.substr(control.find('_') + 1));
  for (const std::string& column :
       {algorithm, "p vs " + whole, std::string("p vs prune"), std::string("seconds")})
    lines[0].push_back(column);
  for (const Row& row : rows) {
    const auto found = [&](const std::string& method) -> const Json* {
      const auto at = row.methods.find(method);
      return at == row.methods.end() ? nullptr : at->second;
    };
    const auto score = [&](const Json* cell) { return cell == nullptr ? std::string("-") : percent(*cell); };
    const auto full_cell = full.find({row.task, row.run});
    std::vector<std::string> line{row.task};
    if (labelled) line.push_back(row.run);
    line.push_back(std::to_string(row.experts));
    line.push_back(score(full_cell == full.end() ? nullptr : full_cell->second));
    line.push_back(
        row.best == nullptr ? "-" : row.best->at("method").get<std::string>() + " " + percent(*row.best));
    line.push_back(score(found("eep_prune")));
    for (const std::string& control : controls) line.push_back(score(found(control)));
    const Json* merged = found("eep_merge");
    const Json* last = merged != nullptr ? merged : found("eep_prune");
    line.push_back(score(merged));
    line.push_back(last == nullptr ? "-" : p_text(*last, "p_vs_full"));
    line.push_back(merged == nullptr ? "-" : p_text(*merged, "p_vs_prune"));
    line.push_back(last == nullptr || last->at("seconds").is_null()
                       ? "-"
                       : fmt::format("{:.1f}", last->at("seconds").get<double>()));
    lines.push_back(std::move(line));
  }
  return aligned(lines, labelled ? 2 : 1);
}

}  // namespace eep
