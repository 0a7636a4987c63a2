// Tasks: what is asked of a model, how an answer is scored, and the items of a split.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "loaders/tasks/extract.h"
#include "loaders/tasks/metric.h"
#include "loaders/text/chat_template.h"

namespace eep {

enum class TaskKind : uint8_t { kMultipleChoice, kGenerate };

// What stands before every prompt: the description, then solved items of a split, as lm-evaluation-harness
// writes them.
struct FewShot {
  std::string description;
  int32_t count = 0;              // num_fewshot
  std::string split;              // fewshot_split
  std::string by;                 // fewshot_by: examples have the item's value in this field
  bool random = false;            // fewshot_sampler: others for every item, by `seed`; else the first
  uint64_t seed = 11450;          // of the program
  std::string delimiter{"\n\n"};  // behind every example
};

// One of several metrics that are taken of the same answers.
struct ScoreRule {
  std::string name;  // as results call it
  Metric metric = Metric::kAcc;
  ExtractRule extract;
};

struct Task {
  std::string name;
  std::string file;       // the YAML file
  std::string directory;  // of the file
  std::string protocol;   // harness or eep
  TaskKind kind = TaskKind::kMultipleChoice;
  std::map<std::string, std::string> data;  // split -> path as written
  std::string prompt;                       // {field} stands for an item's field, {{ and }} for braces
  std::vector<std::string>
      prompts;               // in place of prompt and choices: one a choice, all before `continuation`
  std::string continuation;  // what follows each of `prompts`, with placeholders
  std::vector<std::string> choices;  // the same for every item; generate: what an index in target means
  std::string choices_from;          // or a field that holds a list
  std::string target;                // field: an index, a text, a boolean or a list of accepted answers
  std::vector<std::string> labels;   // what target may hold, in the order of the choices
  FewShot few_shot;
  std::map<std::string, std::vector<std::string>> only;  // items that have one of the values in each field
  Metric metric = Metric::kAcc;                          // the first of `metrics`: what a search climbs
  std::string metric_as;                                 // its name in results
  std::vector<ScoreRule> more;                           // the others
  int32_t max_new = 20;
  int32_t max_length = 0;  // generate: of the prompt and max_new tokens together; 0: the model's positions
  std::vector<std::string> stop{"\n"};
  ExtractRule extract;
  std::vector<Regex> ignore;                    // exact_match: removed from answer and reference
  std::optional<std::string> target_delimiter;  // before every choice and answer; none: as they are written
  bool chat_template = false;         // the prompt is a user's message, the description the system's
  std::vector<std::string> chat_set;  // NAME=VALUE: variables of the template
  std::optional<ChatTemplate> chat;   // of the model, by use_chat_template
};

// `prompts` and `continuation`: Item::choices are the prompts and Item::prompt what follows each of them.
inline bool one_continuation(const Task& task) { return !task.continuation.empty(); }

struct Item {
  std::string prompt;
  std::vector<std::string> choices;     // multiple choice
  int32_t label = -1;                   // index of the right choice
  std::vector<int32_t> also;            // of others that are right too
  std::vector<std::string> references;  // generate: accepted answers
  std::string where;                    // file:line
  std::string before;                   // the description, then with the examples a part of the prompt
  std::string group;                    // value of few_shot.by
  std::string identity;                 // equal for equal questions, whatever stands before them
};

// `path` as find_task gives it. The file's own fields are those of the protocol harness; `protocols`
// overrides them for another. Throws Error(kData) with the position, kConfig for a protocol that the file
// does not know, kNoInput for a missing file.
Task load_task(const std::string& path, const std::string& protocol = "harness");
Task parse_task(const std::string& text, const std::string& path, const std::string& protocol);

// Takes the template of the model that is to be asked, if the task is asked through one. Throws Error(kUsage)
// if the model has none. Without it items are read as they stand.
void use_chat_template(Task* task, const std::string& model_directory);

// The file of a split. Throws Error(kNoInput) if it is missing, kUsage for a split that the task does not
// have.
std::string data_file(const Task& task, const std::string& split);

// The first `limit` items of a split (0: all), with the description and examples before them. Throws
// Error(kData) for a broken line, a missing field or an empty split, kNoInput for a missing file, kUsage for
// a split that the task does not have.
std::vector<Item> load_items(const Task& task, const std::string& split, int64_t limit = 0);

// XXH3-128 of what the items hold: the identity of data in manifests and score files.
std::string items_hash(const std::vector<Item>& items);

}  // namespace eep
