// The figures of a report. Each has its numbers in a table, which its CSV file holds and its picture is drawn
// from; figures of several runs share a file, told apart by a first column `run`.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/report/charts.h"
#include "experiments/report/run_record.h"
#include "experiments/report/table.h"

namespace eep {

struct Figure {
  std::string file;   // figures/<file>.csv
  std::string title;  // a heading
  std::string words;  // what is to be seen, HTML
  std::string body;   // SVG or an HTML table
  Table table;
};

// Those of one run; id: a prefix, unique on the page. What a run has no data for is left out.
// items: the figures with a row an item too.
std::vector<Figure> run_figures(const RunRecord& run, const std::string& id, bool items = true);
// Those of several.
std::vector<Figure> comparison_figures(std::span<const RunRecord> runs);

// Names of all the files that figures may have.
std::span<const std::string_view> figure_files();

// figures_search.cpp
void add_fitness(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_finalists(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_pace(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_work(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
// figures_scores.cpp
void add_splits(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_items(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_probes(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_generation(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_checks(const RunRecord& run, std::vector<Figure>* figures);
// figures_compare.cpp
void add_size(std::span<const RunRecord> runs, const std::string& id, std::vector<Figure>* figures);
void add_curves(std::span<const RunRecord> runs, std::vector<Figure>* figures);
// figures_experts.cpp
void add_expert_map(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_coverage(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_matrices(const RunRecord& run, const std::string& id, std::vector<Figure>* figures);
void add_agreement(std::span<const RunRecord> runs, const std::string& id, std::vector<Figure>* figures);

// The best so far where it rises and at the last evaluation that compares: fresh items of a shard do not.
XySeries best_series(const std::string& name, int colour, const std::vector<EvaluationLine>& archive);
// The plan that was chosen, on the items that the others were scored on: a point at the end of the search,
// where the best so far stops before it. No marks otherwise.
XySeries chosen_series(const RunRecord& run, int colour);
// "what: 82.5 % (0.825), 95% interval ..., n = ..."
std::string score_note(const std::string& what, const SplitNumbers& numbers);
// "82.5 %"
std::string percent_text(double fraction);
// "1.74 GiB": three figures.
std::string gib_text(int64_t bytes);
double gib(int64_t bytes);
// An HTML table; cells are escaped here. The first `left` columns are words, the others numbers.
std::string html_table(const std::vector<std::string>& columns,
                       const std::vector<std::vector<std::string>>& rows, size_t left);

}  // namespace eep
