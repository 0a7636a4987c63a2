// The table of benchmarks whose raw downloads are known: their layout, the fields of a flat row, which items
// count, and what the raw splits are for. The task file that asks them is experiments/tasks/NAME.yaml.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "loaders/tasks/raw_columns.h"
#include "loaders/tasks/raw_rows.h"

namespace eep {

// Where the items of a raw split go. A share is a fraction of 100, by the hash of the item (of its group, so
// that questions on one text stay together).
struct SplitShare {
  std::string_view split;
  int32_t share = 100;
};

struct SplitRule {
  std::string_view raw;     // train, val or test
  std::string_view beside;  // raw splits that are imported too: a+b both, a|b one of them; "": whatever
  std::vector<SplitShare> shares;  // they add up to 100
  std::string_view only = "";      // field=value;value...: of other items the rule knows nothing
};

struct KnownTask {
  std::string_view name;
  std::string_view words;
  std::string_view files;  // the downloads, as they are named
  std::vector<RawLayout> layouts;
  std::string_view rows = "";  // path of the innermost rows, "": as they are
  std::vector<RawColumn> columns = {};
  std::string_view group = "";                     // field: its items are never parted by a hash
  std::vector<std::string_view> csv_columns = {};  // of CSV without a header
  std::vector<SplitRule> rules = {};               // empty: the usual ones
  // Published indices count these items: those whose field `indexed` is true ("": all), from the first on.
  std::string_view indexed = "";
  int64_t index_begin = 0, index_end = INT64_MAX;
  std::string_view labels = "";  // end of the name of a file that holds the label of each row
  // Items of the published splits, for a remark where a file has another number: raw split, items.
  struct Published {
    std::string_view raw;
    int64_t items = 0;
  };
  std::vector<Published> published = {};
};

std::span<const KnownTask> known_tasks();
// Throws Error(kUsage) with the names that are known.
const KnownTask& find_known_task(std::string_view name);
// Those of the task, or what is usual: train is for the search, a tenth of it for the choice; the last of val
// and test for the final scores.
std::span<const SplitRule> split_rules(const KnownTask& task);

}  // namespace eep
