// eep list: what files and options may name, from the tables that define it; and the schema of the experiment
// file, as share/ holds it.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <ostream>

#include "es/algorithms.h"
#include "es/allocation.h"
#include "es/criteria.h"
#include "experiments/program/program.h"
#include "experiments/study/experiment.h"
#include "experiments/study/skipping.h"
#include "loaders/tasks/metric.h"

namespace eep {
namespace {

struct Entry {
  std::string_view name, words;
};

struct Table {
  std::string name;
  std::vector<Entry> entries;
};

template <typename Rows>
std::vector<Entry> entries_of(const Rows& rows) {
  std::vector<Entry> entries;
  for (const auto& row : rows) entries.push_back({row.name, row.words});
  return entries;
}

std::vector<Table> tables() {
  std::vector<Entry> methods;
  for (const CriterionRow& row : criteria()) methods.push_back({row.name, row.formula});
  std::vector<Entry> skipping;
  for (const SkippingRow& row : skipping_methods()) skipping.push_back({row.name, row.words});
  return {{"algorithms", entries_of(algorithms())},
          {"criteria", methods},
          {"skipping", skipping},
          {"allocations", entries_of(allocations())},
          {"metrics", entries_of(metrics())},
          {"extraction", entries_of(extract_rules())}};
}

std::vector<std::string> table_names() {
  std::vector<std::string> names;
  for (const Table& table : tables()) names.push_back(table.name);
  names.emplace_back("schema");
  return names;
}

int run_list(const std::string& wanted, CommandContext& context) {
  if (wanted == "schema") {
    context.out << experiment_schema();
    return 0;
  }
  for (const Table& table : tables()) {
    if (!wanted.empty() && table.name != wanted) continue;
    if (wanted.empty()) context.out << table.name << "\n";
    size_t width = 0;
    for (const Entry& entry : table.entries) width = std::max(width, entry.name.size());
    for (const Entry& entry : table.entries) {
      context.out << fmt::format("{}{:<{}}  {}\n", wanted.empty() ? "  " : "", entry.name, width,
                                 entry.words);
    }
  }
  return 0;
}

}  // namespace

void register_list(CommandLine& line) {
  auto wanted = std::make_shared<std::string>();
  const Command command =
      line.command("list",
                   "What files may name: algorithms, criteria, skipping, allocations, metrics, extraction "
                   "rules; the schema",
                   "eep list criteria", [=](CommandContext& context) { return run_list(*wanted, context); });
  command
      .option("TABLE", *wanted, "one table, or the JSON Schema of the experiment file (default: all tables)")
      .one_of(table_names());
}

}  // namespace eep
