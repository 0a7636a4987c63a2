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
#include "kernels/cpu/cpu_target.h"
#include "loaders/formats/json.h"
#include "loaders/tasks/metric.h"

namespace eep {
namespace {

struct Entry {
  std::string name, words;
};

// entries are made for a table that is shown: a start of the program needs the names alone.
struct Table {
  const char* name;
  std::vector<Entry> (*entries)();
};

template <auto rows>
std::vector<Entry> entries_of() {
  std::vector<Entry> entries;
  for (const auto& row : rows()) entries.push_back({std::string(row.name), std::string(row.words)});
  return entries;
}

std::vector<Entry> methods() {
  std::vector<Entry> entries;
  for (const CriterionRow& row : criteria())
    entries.push_back({std::string(row.name), std::string(row.formula)});
  return entries;
}

// Fields of the experiment file by their dotted paths, as --set takes them; words: what they may be.
void add_fields(const Json& schema, const std::string& path, std::vector<Entry>* entries) {
  if (schema.contains("properties")) {
    for (const auto& [name, field] : schema["properties"].items())
      add_fields(field, path.empty() ? name : path + "." + name, entries);
  }
  if (path.empty() || schema.value("type", Json()) == "object") return;
  std::string words;
  if (schema.contains("enum")) {
    for (const Json& value : schema["enum"])
      words += (words.empty() ? "" : ", ") + (value.is_string() ? value.get<std::string>() : value.dump());
  } else if (schema.contains("type")) {
    words = schema["type"].is_string() ? schema["type"].get<std::string>() : schema["type"].dump();
  }
  entries->push_back({path, words});
}

std::vector<Entry> fields() {
  std::vector<Entry> entries;
  add_fields(parse_json(experiment_schema(), "schema"), "", &entries);
  return entries;
}

std::vector<Entry> tasks() {
  std::vector<Entry> entries;
  for (const auto& [name, file] : known_tasks(".")) entries.push_back({name, file});
  return entries;
}

std::vector<Entry> targets() {
  std::vector<Entry> entries{{"auto", "the best of the others"}};
  for (const std::string& name : cpu_targets())
    entries.push_back({name, name == cpu_target() ? "in use" : "this machine can run it"});
  return entries;
}

constexpr Table kTables[] = {{"algorithms", entries_of<algorithms>},
                             {"criteria", methods},
                             {"skipping", entries_of<skipping_methods>},
                             {"allocations", entries_of<allocations>},
                             {"metrics", entries_of<metrics>},
                             {"extraction", entries_of<extract_rules>},
                             {"fields", fields},
                             {"tasks", tasks},
                             {"targets", targets}};

std::vector<std::string> table_names() {
  std::vector<std::string> names;
  for (const Table& table : kTables) names.emplace_back(table.name);
  names.emplace_back("schema");
  return names;
}

int run_list(const std::string& wanted, CommandContext& context) {
  if (wanted == "schema") {
    context.out << experiment_schema();
    return 0;
  }
  for (const Table& table : kTables) {
    if (!wanted.empty() && table.name != wanted) continue;
    if (wanted.empty()) context.out << table.name << "\n";
    const std::vector<Entry> entries = table.entries();
    size_t width = 0;
    for (const Entry& entry : entries) width = std::max(width, entry.name.size());
    for (const Entry& entry : entries) {
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
                   "What files and options may name: algorithms, criteria, skipping, allocations, metrics, "
                   "extraction rules, fields, "
                   "tasks, CPU targets; the schema",
                   "eep list criteria", [=](CommandContext& context) { return run_list(*wanted, context); });
  command
      .option("TABLE", *wanted, "one table, or the JSON Schema of the experiment file (default: all tables)")
      .one_of(table_names());
}

}  // namespace eep
