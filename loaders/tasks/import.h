// Raw downloads to flat JSON Lines: one file a split, what they were made of, and a task file that asks them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "loaders/tasks/known_tasks.h"

namespace eep {

struct ImportOptions {
  // Files and folders. A raw split may be said: train=FILE, val=FILE, test=FILE. demonstrations=FILE: flat
  // rows that become a split of that name as they are.
  std::vector<std::string> files;
  std::string out;    // directory
  std::string index;  // "", or a JSON list of items, counted from 0: those are the test split
  // In place of the rules: shares of the items of all files, by hash, that add up to 100.
  std::vector<std::pair<std::string, int32_t>> shares;
  std::string task_file;  // the shipped task file, whose `data` is replaced by what was written
};

struct ImportResult {
  std::string task_file;                  // that was written
  std::map<std::string, int64_t> splits;  // items
  std::vector<std::string> remarks;       // counts other than the published ones, parts that were not made
};

// Writes OUT/NAME.yaml, OUT/NAME/SPLIT.jsonl and OUT/NAME/provenance.json; nothing of them where it throws.
// Files pass through in a bounded buffer. Throws Error(kData) for an unknown layout, a missing field, a wrong
// count; kUsage for options that make no sense; kNoInput, kIo.
ImportResult import_task(const KnownTask& task, const ImportOptions& options);

// "train=80,dev=10,test=10". Throws Error(kUsage).
std::vector<std::pair<std::string, int32_t>> parse_shares(const std::string& text);

}  // namespace eep
