#include "loaders/tasks/import.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>

#include "kernels/common/expected.h"
#include "kernels/common/interrupt.h"
#include "loaders/formats/file.h"
#include "loaders/tasks/check_target.h"
#include "loaders/tasks/extract.h"

namespace eep {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kDemonstrations = "demonstrations";
constexpr uint64_t kHashSeed = 2407;  // of shares: fixed, so that a split is the same on every machine

struct Source {
  std::string path, raw;  // raw: train, val or test
  RawLayout layout = RawLayout::kJsonLines;
  std::string labels;  // file, or ""
};

// Of the words of a file's name, the last that names a split; else of its folder's; else test.
std::string raw_split_of(const std::string& path) {
  static const std::map<std::string, std::string> kWords{{"train", "train"}, {"dev", "val"},
                                                         {"val", "val"},     {"valid", "val"},
                                                         {"test", "test"},   {"validation", "val"}};
  const fs::path file(path);
  for (const std::string& name : {file.stem().string(), file.parent_path().filename().string()}) {
    std::string found, word;
    for (const char c : name + ".") {
      if (std::isalpha(static_cast<unsigned char>(c)) != 0) {
        word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        continue;
      }
      if (const auto known = kWords.find(word); known != kWords.end()) found = known->second;
      word.clear();
    }
    if (!found.empty()) return found;
  }
  return "test";
}

RawLayout layout_of(const KnownTask& task, const std::string& path) {
  for (const RawLayout layout : task.layouts) {
    if (path.ends_with(raw_layout(layout).extension)) return layout;
  }
  return task.layouts[0];
}

// The files that an argument stands for: itself, or what a folder holds in a layout of the task.
std::vector<std::string> files_of(const KnownTask& task, const std::string& path) {
  if (!directory_exists(path)) return {path};
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry : fs::recursive_directory_iterator(path, error)) {
    const std::string file = entry.path().string();
    const bool fits = std::any_of(task.layouts.begin(), task.layouts.end(), [&](RawLayout layout) {
      return file.ends_with(raw_layout(layout).extension);
    });
    if (entry.is_regular_file() && fits) files.push_back(file);
  }
  if (error) throw Error(ExitCode::kIo, path, "cannot read the directory: " + error.message());
  if (files.empty()) {
    throw Error(ExitCode::kNoInput, path,
                fmt::format("no file of task {} (expected {})", task.name, task.files));
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::vector<Source> sources_of(const KnownTask& task, const ImportOptions& options) {
  std::vector<Source> sources;
  std::vector<std::string> labels;
  for (const std::string& argument : options.files) {
    std::string said, path = argument;
    if (argument.starts_with(std::string(kDemonstrations) + "=")) continue;
    const size_t equals = argument.find('=');
    for (const std::string_view split : {"train", "val", "test"}) {
      if (argument.substr(0, equals) != split || equals == std::string::npos) continue;
      said = split;
      path = argument.substr(equals + 1);
    }
    for (const std::string& file : files_of(task, path)) {
      if (!task.labels.empty() && file.ends_with(task.labels)) {
        labels.push_back(file);
        continue;
      }
      sources.push_back({file, said.empty() ? raw_split_of(file) : said, layout_of(task, file), ""});
    }
  }
  for (const std::string& file : labels) {
    const std::string stem = file.substr(0, file.size() - task.labels.size());
    const auto owner = std::find_if(sources.begin(), sources.end(), [&](const Source& source) {
      return fs::path(source.path).replace_extension().string() == stem;
    });
    if (owner == sources.end())
      throw Error(ExitCode::kUsage, file, "labels of a file that is not named (expected " + stem + ".jsonl)");
    owner->labels = file;
  }
  if (sources.empty())
    throw Error(ExitCode::kUsage, "FILE", fmt::format("no files (expected {})", task.files));
  // The order of the published counts: train, val, test; within one as given.
  std::stable_sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
    const auto place = [](const Source& s) { return s.raw == "train" ? 0 : s.raw == "val" ? 1 : 2; };
    return place(a) < place(b);
  });
  return sources;
}

std::vector<std::string> read_labels(const std::string& path) {
  std::vector<std::string> labels;
  const std::string text = read_file(path);
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    labels.push_back(strip(std::string_view(text).substr(begin, end - begin)));
    begin = end + 1;
  }
  return labels;
}

std::set<int64_t> read_index(const std::string& path) {
  const JsonDocument document = JsonDocument::read(path);
  const JsonView root = document.root().as_array();
  std::set<int64_t> index;
  for (size_t i = 0; i < root.size(); ++i) {
    if (!index.insert(root.at(i).as_int(0, INT64_MAX)).second) root.at(i).fail("twice in the list");
  }
  if (index.empty()) throw Error(ExitCode::kData, path, "an empty list of items");
  return index;
}

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

bool holds(const SplitRule& rule, const std::set<std::string>& raws) {
  const bool both = rule.beside.find('+') != std::string_view::npos;
  bool any = rule.beside.empty(), all = true;
  for (const std::string_view raw : {"train", "val", "test"}) {
    if (rule.beside.find(raw) == std::string_view::npos) continue;
    if (raws.count(std::string(raw)) != 0) {
      any = true;
    } else {
      all = false;
    }
  }
  return both ? all : any;
}

// field=value;value...
bool applies(const SplitRule& rule, const Json& item) {
  const size_t equals = rule.only.find('=');
  if (equals == std::string_view::npos) return true;
  const std::string value = ";" + text_of(item.at(std::string(rule.only.substr(0, equals)))) + ";";
  return (";" + std::string(rule.only.substr(equals + 1)) + ";").find(value) != std::string::npos;
}

class Importer {
 public:
  Importer(const KnownTask& task, const ImportOptions& options)
      : task_(task), options_(options), folder_((fs::path(options.out) / task.name).string()) {}

  ImportResult run() {
    const std::vector<Source> sources = sources_of(task_, options_);
    for (const Source& source : sources) raws_.insert(source.raw);
    if (!options_.index.empty()) {
      if (!options_.shares.empty())
        throw Error(ExitCode::kUsage, "--index", "excludes --hash: each says what the splits are");
      index_ = read_index(options_.index);
      indexed_raw_ = sources.back().raw;
    }
    const std::string task_text = read_file(options_.task_file);
    readings_.push_back(parse_task(task_text, options_.task_file, "harness"));
    if (task_text.find("\n  eep:") != std::string::npos)
      readings_.push_back(parse_task(task_text, options_.task_file, "eep"));
    make_directory();
    for (const Source& source : sources) read(source);
    for (const std::string& argument : options_.files) {
      if (argument.starts_with(std::string(kDemonstrations) + "="))
        copy_demonstrations(argument.substr(kDemonstrations.size() + 1));
    }
    if (!index_.empty() && *index_.rbegin() >= position_) {
      throw Error(
          ExitCode::kData, options_.index,
          "an item beyond the end" + expected_got(fmt::format("0..{}", position_ - 1), *index_.rbegin()));
    }
    remark_counts();
    write_rest(task_text);
    return std::move(result_);
  }

 private:
  void make_directory() const {
    std::error_code error;
    fs::create_directories(folder_, error);
    if (error) throw Error(ExitCode::kIo, folder_, "cannot create the directory: " + error.message());
  }

  void read(const Source& source) {
    std::vector<std::string> labels;
    if (!source.labels.empty()) labels = read_labels(source.labels);
    int64_t row = 0;
    const int64_t before = items_[source.raw];
    const TakeRow take = [&](const Json& value, const std::string& where) {
      Json labelled;
      if (!source.labels.empty()) {
        if (row >= std::ssize(labels)) {
          throw Error(
              ExitCode::kData, source.labels,
              fmt::format("wrong count: fewer labels than rows of {} (got {})", source.path, labels.size()));
        }
        labelled = value;
        labelled["label"] = labels[static_cast<size_t>(row)];
      }
      ++row;
      const RawScope scope{
          {source.labels.empty() ? &value : &labelled}, where, fs::path(source.path).stem().string()};
      unnest(scope, task_.rows, [&](const RawScope& inner) { add(source, inner); });
    };
    const RawFile file = read_raw(source.path, source.layout, task_.csv_columns, take);
    if (!source.labels.empty() && row != std::ssize(labels)) {
      throw Error(
          ExitCode::kData, source.labels,
          fmt::format("wrong count: one label a row of {}", source.path) + expected_got(row, labels.size()));
    }
    if (items_[source.raw] == before)
      throw Error(ExitCode::kData, source.path, fmt::format("no items in its {} rows", file.rows));
    sources_json_.push_back({{"file", fs::path(source.path).filename().string()},
                             {"split", source.raw},
                             {"bytes", file.bytes},
                             {"hash", file.hash},
                             {"rows", file.rows},
                             {"items", items_[source.raw] - before}});
  }

  void put(const std::string& split, const std::string& line) {
    std::unique_ptr<AtomicFile>& file = files_[split];
    if (!file) file = std::make_unique<AtomicFile>(join_path(folder_, split + ".jsonl"));
    file->write(line.data(), line.size());
    ++result_.splits[split];
  }

  void copy_demonstrations(const std::string& path) {
    const RawFile file = read_raw(path, RawLayout::kJsonLines, {}, [&](const Json& row, const std::string&) {
      put(std::string(kDemonstrations), row.dump() + "\n");
    });
    sources_json_.push_back({{"file", fs::path(path).filename().string()},
                             {"split", kDemonstrations},
                             {"bytes", file.bytes},
                             {"hash", file.hash},
                             {"rows", file.rows},
                             {"items", file.rows}});
  }

  void add(const Source& source, const RawScope& scope) {
    check_interrupted();
    Json item = Json::object();
    for (const RawColumn& column : task_.columns) {
      Json value = column.make(scope, column.from);
      if (!value.is_null()) item[std::string(column.name)] = std::move(value);
    }
    for (const Task& reading : readings_) check_target(reading, item, scope.where);
    ++items_[source.raw];
    const std::string line = item.dump() + "\n";
    const std::string split = split_of(source, item, line);
    if (!split.empty()) put(split, line);
  }

  // "" for an item that no split takes.
  std::string split_of(const Source& source, const Json& item, const std::string& line) {
    if (!options_.shares.empty()) return by_hash(options_.shares, item, line);
    if (!index_.empty() && source.raw == indexed_raw_) return by_index(item, line);
    for (const SplitRule& rule : split_rules(task_)) {
      if (rule.raw != source.raw || !holds(rule, raws_) || !applies(rule, item)) continue;
      std::vector<std::pair<std::string, int32_t>> shares;
      for (const SplitShare& share : rule.shares) shares.emplace_back(share.split, share.share);
      return by_hash(shares, item, line);
    }
    return "";
  }

  // The listed items are the test split; others that could have been listed are for the search where no raw
  // train split is.
  std::string by_index(const Json& item, const std::string& line) {
    if (!task_.indexed.empty() && !item.at(std::string(task_.indexed)).get<bool>()) return "";
    const int64_t place = counted_++ - task_.index_begin;
    if (place < 0 || place >= task_.index_end - task_.index_begin) return "";
    position_ = place + 1;
    if (index_.count(place) != 0) return "test";
    if (raws_.count("train") != 0) return "";
    return by_hash({{"train", 80}, {"dev", 20}}, item, line);
  }

  std::string by_hash(const std::vector<std::pair<std::string, int32_t>>& shares, const Json& item,
                      const std::string& line) const {
    if (shares.size() == 1) return shares[0].first;
    const std::string key = task_.group.empty() ? line : text_of(item.at(std::string(task_.group)));
    auto place = static_cast<int32_t>(XXH3_64bits_withSeed(key.data(), key.size(), kHashSeed) % 100);
    for (const auto& [split, share] : shares) {
      if (place < share) return split;
      place -= share;
    }
    return shares.back().first;
  }

  void remark_counts() {
    for (const auto& [raw, items] : items_) {
      std::string expected;
      bool known = false;
      for (const KnownTask::Published& published : task_.published) {
        if (published.raw != raw) continue;
        expected += (expected.empty() ? "" : " or ") + std::to_string(published.items);
        known = known || published.items == items;
      }
      if (!expected.empty() && !known)
        result_.remarks.push_back(
            fmt::format("{}: {} has {} items (published: {})", task_.name, raw, items, expected));
    }
  }

  // The task file, with the splits that there are, and the provenance; then everything gets its name.
  void write_rest(const std::string& task_text) {
    std::string data = "data: {";
    for (const auto& [split, items] : result_.splits)
      data += fmt::format("{}{}: {}/{}.jsonl", data.ends_with("{") ? "" : ", ", split, task_.name, split);
    data += "}\n";
    std::string yaml =
        fmt::format("# Made by eep task import; {}/provenance.json says of what.\n", task_.name);
    bool replaced = false;
    for (size_t begin = 0; begin < task_text.size();) {
      const size_t end = std::min(task_text.find('\n', begin), task_text.size() - 1) + 1;
      const std::string line = task_text.substr(begin, end - begin);
      begin = end;
      const bool is_data = line.starts_with("data: {");
      yaml += is_data ? data : line;
      replaced = replaced || is_data;
    }
    if (!replaced) throw Error(ExitCode::kData, options_.task_file, "no line that begins with \"data: {\"");
    Json splits = Json::object();
    for (const auto& [split, items] : result_.splits) splits[split] = items;
    const Json provenance{{"format", "eep-import"},
                          {"version", 1},
                          {"task", task_.name},
                          {"sources", sources_json_},
                          {"rule", !index_.empty()            ? "index"
                                   : !options_.shares.empty() ? "hash"
                                                              : "rule"},
                          {"splits", splits}};
    AtomicFile about(join_path(folder_, "provenance.json"));
    const std::string text = provenance.dump(2) + "\n";
    about.write(text.data(), text.size());
    result_.task_file = join_path(options_.out, std::string(task_.name) + ".yaml");
    AtomicFile task_file(result_.task_file);
    task_file.write(yaml.data(), yaml.size());
    for (auto& [split, file] : files_) file->commit();
    about.commit();
    task_file.commit();
  }

  const KnownTask& task_;
  const ImportOptions& options_;
  std::vector<Task> readings_;  // of the task file, by protocol: what the target may hold
  std::string folder_;
  std::set<std::string> raws_;
  std::set<int64_t> index_;
  std::string indexed_raw_;  // the raw split that the index is of: the last
  int64_t counted_ = 0, position_ = 0;
  std::map<std::string, int64_t> items_;  // of each raw split
  std::map<std::string, std::unique_ptr<AtomicFile>> files_;
  Json sources_json_ = Json::array();
  ImportResult result_;
};

}  // namespace

ImportResult import_task(const KnownTask& task, const ImportOptions& options) {
  const fs::path folder = fs::path(options.out) / task.name;
  const bool was_there = is_there(options.out);
  try {
    return Importer(task, options).run();
  } catch (...) {  // an empty folder is a trace too
    std::error_code ignored;
    fs::remove(folder, ignored);
    if (!was_there) fs::remove(options.out, ignored);
    throw;
  }
}

std::vector<std::pair<std::string, int32_t>> parse_shares(const std::string& text) {
  const auto fail = [&](const std::string& what) {
    throw Error(ExitCode::kUsage, "--hash",
                what + expected_got("such as train=80,dev=10,test=10", printable(text)));
  };
  std::vector<std::pair<std::string, int32_t>> shares;
  int32_t sum = 0;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t equals = part.find('=');
    const std::string split = part.substr(0, equals);
    const std::string share = equals == std::string::npos ? "" : part.substr(equals + 1);
    if (split.empty() ||
        split.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789") != std::string::npos)
      fail("a split has no name of a-z, 0-9 and _");
    if (std::any_of(shares.begin(), shares.end(), [&](const auto& known) { return known.first == split; }))
      fail("a split is named twice");
    if (share.empty() || share.size() > 3 || share.find_first_not_of("0123456789") != std::string::npos)
      fail("a share is no number of 1..100");
    shares.emplace_back(split, std::stoi(share));
    sum += shares.back().second;
  }
  if (sum != 100) fail(fmt::format("the shares add up to {}, not 100", sum));
  return shares;
}

}  // namespace eep
