#include "experiments/report/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "experiments/report/card.h"
#include "experiments/report/page.h"
#include "experiments/report/published.h"
#include "loaders/formats/file.h"

namespace eep {
namespace {

constexpr size_t kMostDetailed = 8;  // runs with all their figures on one page

std::string folder_name(const std::string& path) {
  const std::filesystem::path name = std::filesystem::path(path).lexically_normal();
  return (name.has_filename() ? name.filename() : name.parent_path().filename()).string();
}

std::vector<RunRecord> read_all(const std::vector<std::string>& directories) {
  std::vector<RunRecord> runs;
  for (const std::string& directory : directories) {
    for (RunRecord& run : read_run_records(directory)) {
      const std::string folder = folder_name(directory);
      if (run.label.empty()) {
        run.label = directories.size() == 1 && !run.name.empty() ? run.name : folder;
        run.setting = run.label;
      } else if (directories.size() > 1) {
        run.label = folder + "/" + run.label;
        run.setting = folder + (run.setting.empty() ? "" : "/" + run.setting);
      }
      runs.push_back(std::move(run));
    }
  }
  // Two of one name are told apart by where they lie.
  std::map<std::string, int> seen;
  for (const RunRecord& run : runs) ++seen[run.label];
  for (RunRecord& run : runs) {
    if (seen[run.label] > 1) run.label = run.setting = run.path;
  }
  return runs;
}

void make_directory(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    throw Error(ExitCode::kIo, path, "cannot create the directory: " + error.message(),
                "name another by --out");
}

// Tables of one file name are one file, with the run in front.
void collect(const std::vector<Figure>& figures, const std::string& run,
             std::map<std::string, Table>* files) {
  for (const Figure& figure : figures) {
    Table& table = (*files)[figure.file];
    const bool named = figure.table.columns[0] == "run";  // it tells its runs apart itself
    if (table.columns.empty()) {
      table.columns = figure.table.columns;
      if (!named) table.columns.insert(table.columns.begin(), "run");
    }
    for (const std::vector<std::string>& row : figure.table.rows) {
      table.add(row);
      if (!named) table.rows.back().insert(table.rows.back().begin(), run);
    }
  }
}

// Of an earlier report in the same place, which had a figure that this one has not.
void remove_others(const std::string& folder, const std::map<std::string, Table>& files) {
  for (const std::string_view name : figure_files()) {
    std::error_code ignored;
    if (files.count(std::string(name)) == 0)
      std::filesystem::remove(fmt::format("{}/{}.csv", folder, name), ignored);
  }
}

}  // namespace

std::string write_report_files(const ReportOptions& options) {
  const std::vector<RunRecord> runs = read_all(options.directories);
  for (const RunRecord& run : runs) {
    for (const std::string& line : run.warnings) {
      if (options.warn) options.warn(run.path + ": " + line);
    }
  }
  std::vector<Figure> compared = comparison_figures(runs);
  if (!options.against.empty()) add_published(runs, read_published(options.against), "all", &compared);
  std::vector<PageRun> pages;
  std::map<std::string, Table> files;
  for (size_t i = 0; i < runs.size(); ++i) {
    PageRun page{&runs[i], {}};
    // A row an item of every method of many runs would be most of the page's time and files.
    std::vector<Figure> figures =
        run_figures(runs[i], fmt::format("r{}", i), /*items=*/runs.size() <= kMostDetailed);
    collect(figures, runs[i].label, &files);
    if (runs.size() <= kMostDetailed) page.figures = std::move(figures);
    pages.push_back(std::move(page));
  }
  if (runs.size() > 1) {
    std::vector<Figure> own = compared;  // the rows of the others are there, run by run
    std::erase_if(own, [&](const Figure& figure) { return files.count(figure.file) != 0; });
    collect(own, "all", &files);
  } else {
    collect(compared, runs[0].label, &files);
  }

  const std::string out = options.out.empty() ? options.directories[0] : options.out;
  make_directory(out + "/figures");
  for (const auto& [name, table] : files)
    write_file_atomic(out + "/figures/" + name + ".csv", csv_text(table));
  remove_others(out + "/figures", files);
  write_file_atomic(out + "/card.md", model_card_of_runs(runs));
  write_file_atomic(out + "/report.html", report_page(pages, compared));
  return out + "/report.html";
}

void report_after_run(const std::string& directory, const std::function<void(const std::string&)>& warn) {
  try {
    write_report_files({{directory}, "", "", {}});
  } catch (const std::exception& error) {
    warn(std::string("no report: ") + error.what());
  }
}

}  // namespace eep
