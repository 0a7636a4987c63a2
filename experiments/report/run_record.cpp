// Reading a run directory; what each file holds is in the documents of the run directory.
#include "experiments/report/run_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <span>
#include <string_view>

#include "es/statistics_io.h"
#include "experiments/report/json_fields.h"
#include "experiments/study/experiment.h"
#include "experiments/study/run_report.h"
#include "experiments/study/version.h"
#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/models/plan_io.h"
#include "loaders/tasks/metric.h"

namespace eep {
namespace {

constexpr int64_t kMostExperts = 1 << 20;
constexpr int64_t kMostCount = int64_t{1} << 50;

std::optional<Interval> interval_of(const JsonFields& fields, const char* key) {
  const std::optional<std::pair<double, double>> ends = fields.pair_if(key);
  return ends ? std::optional(Interval{ends->first, ends->second}) : std::nullopt;
}

std::optional<SplitNumbers> split_of(const JsonFields& method, const char* split, const std::string& metric) {
  if (!method.has(split)) return std::nullopt;
  const JsonFields fields = method.object(split);
  SplitNumbers numbers;
  numbers.score = fields.number("score");
  numbers.n = fields.has("n") ? fields.integer("n", 0, kMostCount) : 0;
  numbers.interval = interval_of(fields, "ci95");
  numbers.p_vs_full = fields.number_if("p_vs_full");
  numbers.p_vs_prune = fields.number_if("p_vs_prune");
  numbers.best = fields.number_if("best");
  numbers.recovery = fields.number_if("recovery");
  numbers.recovery_interval = interval_of(fields, "recovery_ci95");
  // Train and dev scores come without one; that of a share of right answers follows from n.
  const std::optional<Metric> known = parse_metric(metric);
  if (!numbers.interval && known && is_binary(*known) && numbers.n > 0) {
    const double share = std::clamp(numbers.score, 0.0, 1.0), n = static_cast<double>(numbers.n);
    numbers.interval = wilson_interval(share * n, n);
  }
  return numbers;
}

class RecordReader {
 public:
  RecordReader(std::string directory, RunRecord* record)
      : directory_(std::move(directory)), record_(record) {}

  // shared: the directory of what the combinations of a sweep share, or the same.
  void read(const std::string& shared) {
    record_->path = directory_;
    try {
      read_files(shared);
    } catch (const Error& error) {
      const std::string text = error.what();
      const size_t colon = text.find(": ");
      if (colon == std::string::npos) throw;
      throw Error(error.code(), text.substr(0, colon), text.substr(colon + 2), remedy(text, shared));
    }
  }

 private:
  void read_files(const std::string& shared) {
    read_manifest();
    read_config();
    read_result();
    read_archives();
    read_generations();
    read_finalists();
    for (MethodNumbers& method : record_->methods) read_method_files(&method);
    for (MethodNumbers& method : record_->methods) fill_recovery(&method);
    read_final_plan();
    read_statistics(shared);
    read_checks();
    read_probes();
  }

  // Of a file that is damaged or of another version. A program wrote it: what a reader offers for slips of
  // the pen does not help.
  std::string remedy(const std::string& error, const std::string& shared) const {
    const std::string version = record_->fact("", "version");
    if (!version.empty() && version != kVersion)
      return fmt::format("eep {} wrote the run, this is {}: report with that one, or run it anew",
                         printable(version), kVersion);
    if (error.starts_with(path("config.resolved.yaml"))) return "copy the run once more";
    return fmt::format(
        "copy the run once more; or remove that file and {} and make both anew: eep run --resume {}",
        path("result.json"), shared);
  }

  std::string path(const std::string& name) const { return directory_ + "/" + name; }
  void note(const std::string& text) { record_->notes.push_back(text); }
  void warn(const std::string& text) {
    note(text);
    record_->warnings.push_back(text);
  }
  // What is there and not among `known`.
  void warn_of_others(const std::string& what, const Json& object, std::span<const std::string_view> known) {
    std::string others;
    for (const auto& [key, value] : object.items()) {
      if (std::find(known.begin(), known.end(), key) == known.end())
        others += (others.empty() ? "" : ", ") + printable(key);
    }
    if (others.empty()) return;
    const std::string line =
        fmt::format("{} has what this version of eep does not know: {}. It is left out.", what, others);
    if (std::find(record_->warnings.begin(), record_->warnings.end(), line) == record_->warnings.end())
      warn(line);
  }

  // A file that was cut between two lines.
  void check_count(const std::string& file, int64_t found, int64_t wanted) const {
    if (found != wanted)
      throw Error(ExitCode::kData, path(file),
                  "not the file of this result" + expected_got(fmt::format("{} lines", wanted), found));
  }

  void read_manifest() {
    record_->manifest = Json::object();
    if (!file_exists(path("manifest.json"))) {
      warn("manifest.json is missing: versions, hashes and the command are not known.");
      return;
    }
    const std::string text = read_file(path("manifest.json"));
    record_->manifest = parse_json(text, path("manifest.json"));
    const JsonFields fields(record_->manifest, path("manifest.json"), text);
    if (fields.text_or("format", "eep-manifest") != "eep-manifest")
      fields.fail("format", "expected eep-manifest, got " + printable(fields.text("format")));
    for (const char* key : {"version", "started", "command", "cpu", "device", "gpu"}) fields.text_or(key, "");
    if (fields.has("model")) {
      for (const char* key : {"path", "hash"}) fields.object("model").text_or(key, "");
    }
    if (fields.has("data")) {
      fields.object("data");
      for (const auto& [split, hash] : fields.value("data").items()) {
        if (!hash.is_string()) fields.fail("data." + split, "expected a text");
      }
    }
  }

  void read_config() {
    const std::string file = path("config.resolved.yaml");
    if (!file_exists(file)) {
      warn("config.resolved.yaml is missing: the budget and the algorithm are not known.");
      return;
    }
    const Experiment experiment = load_experiment(file);
    record_->name = experiment.name;
    record_->seed = std::to_string(experiment.search.seed);
    record_->task = std::filesystem::path(experiment.task).stem().string();
    record_->protocol = experiment.protocol;
    record_->planned = experiment.search.prune.evaluations + experiment.search.merge.evaluations;
    record_->algorithm = experiment.search.merge.algorithm;
    record_->fitness_is_loglik = experiment.search.fitness == FitnessKind::kLoglik;
  }

  void read_result() {
    record_->search = Json::object();
    const std::string file = path("result.json");
    if (!file_exists(file)) {
      warn(
          "This run has not finished: result.json is missing, and with it every final score. "
          "`eep run --resume " +
          directory_ + "` goes on.");
      return;
    }
    record_->finished = true;
    record_->result = eep::read_result(file);
    const std::string text = read_file(file);
    const JsonFields root(record_->result, file, text);
    static constexpr std::string_view kKnown[] = {
        "format", "version",   "name",    "seed",   "device",       "ranks", "weights", "precision",
        "task",   "truncated", "methods", "search", "fitness_over", "tasks", "pareto",  "overlap"};
    warn_of_others("result.json", record_->result, kKnown);
    record_->name = root.text_or("name", record_->name);
    if (root.has("seed")) record_->seed = root.value("seed").dump();
    record_->device = root.text_or("device", "");
    record_->weights = root.text_or("weights", "");
    const JsonFields task = root.object("task");
    record_->task = task.text("name");
    record_->protocol = task.text_or("protocol", "");
    record_->metric = task.text_or("metric", "");
    const Json& methods = root.array("methods");
    for (size_t i = 0; i < methods.size(); ++i) read_method(root.element("methods", i));
    if (methods.empty()) root.fail("methods", "expected at least one method");
    if (root.has("search")) {
      record_->search = root.value("search");
      const JsonFields search = root.object("search");
      for (const char* key :
           {"evaluations", "unique", "seconds", "candidates_per_second", "tokens", "tokens_without_sharing"})
        search.number_if(key);
      record_->algorithm = search.text_or("algorithm", record_->algorithm);
    }
  }

  void read_method(const JsonFields& fields) {
    static constexpr std::string_view kKnown[] = {"name",        "experts", "top_k", "parameters",
                                                  "bytes",       "train",   "dev",   "test",
                                                  "evaluations", "seconds", "plan",  "experts_per_layer"};
    warn_of_others("result.json: a method", fields.json(), kKnown);
    MethodNumbers method;
    method.name = fields.text("name");
    method.experts = fields.integer("experts", 0, kMostExperts);
    method.top_k = fields.has("top_k") ? fields.integer("top_k", 0, kMostExperts) : 0;
    method.parameters = fields.integer("parameters", 0, kMostCount);
    method.bytes = fields.has("bytes") ? fields.integer("bytes", 0, kMostCount) : 0;
    method.evaluations = fields.has("evaluations") ? fields.integer("evaluations", 0, kMostCount) : 0;
    method.seconds = fields.number_if("seconds").value_or(0);
    method.train = split_of(fields, "train", record_->metric);
    method.dev = split_of(fields, "dev", record_->metric);
    method.test = split_of(fields, "test", record_->metric);
    const std::string plan = fields.text_or("plan", "");
    if (plan.starts_with('/') || plan.find("..") != std::string::npos)
      fields.fail("plan", "expected a file in the run directory, got " + printable(plan));
    if (method.name.find('/') != std::string::npos)
      fields.fail("name", "expected the name of a method, got " + printable(method.name));
    plans_.push_back(plan);
    record_->methods.push_back(std::move(method));
  }

  void read_method_files(MethodNumbers* method) {
    const std::string& plan = plans_[static_cast<size_t>(method - record_->methods.data())];
    if (!plan.empty()) {
      if (file_exists(path(plan))) {
        method->plan = read_plan(path(plan));
      } else {
        warn(plan + " is missing: figures of experts leave this method out.");
      }
    }
    const std::string samples = "samples/" + method->name + ".jsonl";
    if (!file_exists(path(samples))) {
      if (method->name != "random" && method->test)
        warn(samples + " is missing: this method's items cannot be compared.");
      return;
    }
    for_each_line(path(samples), false, [&](const JsonFields& line) {
      SampleLine sample;
      sample.item = line.integer("item", 0, kMostCount);
      sample.prompt = line.text("prompt");
      sample.generated = line.has("output");
      sample.given = line.text_or(sample.generated ? "output" : "prediction", "");
      const Json& target = line.value("target");
      sample.target = target.is_string() ? target.get<std::string>() : target.dump(-1, ' ', false);
      if (target.is_array() && target.size() == 1 && target[0].is_string()) sample.target = target[0];
      sample.score = line.number("score");
      method->samples.push_back(std::move(sample));
    });
    if (method->test) check_count(samples, static_cast<int64_t>(method->samples.size()), method->test->n);
  }

  // No figure shows it, but people take it from here.
  void read_final_plan() {
    if (!record_->finished) return;
    if (file_exists(path("plan.json"))) {
      read_plan(path("plan.json"));
    } else if (record_->search.contains("evaluations")) {
      warn("plan.json is missing: `eep export` needs it.");
    }
  }

  // Of runs from before result.json had it: from the items, as a run takes it.
  void fill_recovery(MethodNumbers* method) {
    const MethodNumbers* const full = record_->full();
    if (full == nullptr || full == method || !method->test || method->test->recovery) return;
    std::vector<double> own, base;
    for (const SampleLine& sample : method->samples) own.push_back(sample.score);
    for (const SampleLine& sample : full->samples) base.push_back(sample.score);
    if (own.empty()) return;
    if (const std::optional<Ratio> ratio = paired_ratio(own, base)) {
      method->test->recovery = ratio->value;
      method->test->recovery_interval = ratio->ci95;
    }
  }

  std::vector<EvaluationLine> read_archive(const std::string& file) {
    std::vector<EvaluationLine> lines;
    const bool cut = for_each_line(path(file), !record_->finished, [&](const JsonFields& line) {
      EvaluationLine entry;
      entry.evaluation = line.integer("evaluation", 0, kMostCount);
      entry.phase = line.text("phase");
      if (entry.phase != "prune" && entry.phase != "merge")
        line.fail("phase", "expected prune or merge, got " + printable(entry.phase));
      entry.generation = line.integer("generation", 0, kMostCount);
      entry.origin = line.text_or("origin", "");
      entry.fitness = line.number_if("fitness");
      entry.tiebreak = line.number_if("tiebreak");
      entry.cached = line.flag_or("cached", false);
      entry.fresh = line.has("shard") || line.flag_or("dropped", false);
      lines.push_back(std::move(entry));
    });
    if (cut) warn("The last line of " + file + " is cut: it is left out.");
    return lines;
  }

  void read_archives() {
    if (file_exists(path("archive.jsonl"))) {
      record_->archive = read_archive("archive.jsonl");
      if (record_->search.contains("evaluations"))
        check_count("archive.jsonl", static_cast<int64_t>(record_->archive.size()),
                    JsonFields(record_->search, path("result.json")).integer("evaluations", 0, kMostCount));
    } else {
      warn("archive.jsonl is missing: the search cannot be drawn.");
    }
    for (const std::string& name : directory_names(path("controls"))) {
      const std::string file = "controls/" + name + "/archive.jsonl";
      if (file_exists(path(file))) record_->controls.emplace_back(name, read_archive(file));
    }
  }

  void read_generations() {
    if (!file_exists(path("metrics.jsonl"))) {
      warn("metrics.jsonl is missing: the search's pace cannot be drawn.");
      return;
    }
    const bool cut = for_each_line(path("metrics.jsonl"), !record_->finished, [&](const JsonFields& line) {
      record_->generations.push_back({line.text("phase"), line.integer("generation", 0, kMostCount),
                                      line.integer("evaluations", 0, kMostCount),
                                      line.integer("evaluated", 0, kMostCount), line.number_if("best"),
                                      line.number("wall_s")});
    });
    if (cut) warn("The last line of metrics.jsonl is cut: it is left out.");
  }

  void read_finalists() {
    if (!file_exists(path("finalists.jsonl"))) return;  // runs from before there were any, or no dev split
    for_each_line(path("finalists.jsonl"), false, [&](const JsonFields& line) {
      record_->finalists.push_back({line.text("method"), line.integer("evaluation", 0, kMostCount),
                                    line.number("train"), line.number("dev"), line.flag_or("chosen", false)});
    });
  }

  // The calibration of the same model and items; a cache, so that what cannot be read is as good as missing.
  void read_statistics(const std::string& shared) {
    const std::string model = record_->fact("model", "hash"), data = record_->fact("data", "train");
    for (const std::string& folder : {path("checkpoints"), shared + "/checkpoints"}) {
      for (const std::string& name : directory_names(folder)) {
        if (!name.starts_with("calibration-") || record_->statistics) continue;
        try {
          const Json json = parse_json(read_file(folder + "/" + name), name);
          if (!json.is_object() || !json.contains("statistics")) continue;
          StatisticsFile file = parse_statistics(json.at("statistics").dump(), name);
          const bool same_task = record_->finished ? file.task == record_->task : true;
          if (file.model == model && (file.data == data || same_task))
            record_->statistics = std::move(file.statistics);
        } catch (const Error&) {
          warn("checkpoints/" + printable(name) + " cannot be read: a calibration that is left out.");
        }
      }
    }
    if (!record_->statistics)
      note("No calibration of this model and task is kept: saliency and coverage are not drawn.");
  }

  void read_checks() {
    const std::string file = path("export_check.json");
    if (!file_exists(file)) return;
    const std::string text = read_file(file);
    const Json json = parse_json(text, file);
    const JsonFields root(json, file, text);
    const Json& checks = root.array("checks");
    for (size_t i = 0; i < checks.size(); ++i) {
      const JsonFields check = root.element("checks", i);
      record_->checks.push_back(
          {check.text("check"), check.text_or("detail", ""), check.flag_or("passed", false)});
    }
  }

  void read_probes() {
    constexpr int64_t kMost = int64_t{1} << 32;
    const std::string file = path("probe.json");
    if (!file_exists(file)) return;
    const std::string text = read_file(file);
    const Json json = parse_json(text, file);
    const JsonFields root(json, file, text);
    const int64_t prompts = root.integer("probes", 1, kMost);
    const Json& models = root.array("models");
    for (size_t i = 0; i < models.size(); ++i) {
      const JsonFields model = root.element("models", i);
      record_->probes.push_back(
          {model.text("name"), prompts, model.integer("loops", 0, prompts), model.number_if("distinct4")});
    }
  }

  std::string directory_;
  RunRecord* record_;
  std::vector<std::string> plans_;  // [methods] file, or ""
};

bool holds_a_run(const std::string& directory) {
  for (const char* name : {"result.json", "archive.jsonl", "manifest.json"}) {
    if (file_exists(directory + "/" + name)) return true;
  }
  return false;
}

// Directories of a sweep's combinations with their settings (seed, task and budget left out), in the sweep's
// order: those of its configuration, else whatever directories hold one.
// trouble: why those of the configuration are not known, or as it is.
std::vector<std::pair<std::string, std::string>> combinations_in(const std::string& directory,
                                                                 std::string* trouble) {
  std::vector<std::pair<std::string, std::string>> found;
  try {
    for (const Combination& combination : expand_sweep(directory + "/config.resolved.yaml"))
      found.emplace_back(combination.name, combination_label(combination, false));
  } catch (const Error& error) {
    found.clear();
    *trouble = error.what();
    for (const std::string& name : directory_names(directory)) found.emplace_back(name, name);
  }
  return found;
}

RunRecord read_one(const std::string& directory, const std::string& shared) {
  RunRecord record;
  RecordReader(directory, &record).read(shared);
  return record;
}

}  // namespace

std::string RunRecord::fact(const std::string& section, const std::string& key) const {
  const Json* object = &manifest;
  if (!section.empty()) {
    const auto found = manifest.find(section);
    if (found == manifest.end() || !found->is_object()) return "";
    object = &*found;
  }
  const auto found = object->find(key);
  return found == object->end() || !found->is_string() ? "" : found->get<std::string>();
}

const MethodNumbers* RunRecord::method(const std::string& wanted) const {
  const auto found = std::find_if(methods.begin(), methods.end(),
                                  [&](const MethodNumbers& method) { return method.name == wanted; });
  return found == methods.end() ? nullptr : &*found;
}

std::vector<RunRecord> read_run_records(const std::string& directory) {
  if (!directory_exists(directory)) fail_missing(directory, "no such run directory");
  std::vector<RunRecord> records;
  if (holds_a_run(directory)) {
    // A combination of a sweep shares the sweep's calibrations, and is known by its directory's name.
    const std::filesystem::path own =
        std::filesystem::path(directory + "/.").lexically_normal().parent_path();
    const std::string parent = own.has_parent_path() ? own.parent_path().string() : ".";
    const bool part = !own.filename().empty() && file_exists(parent + "/config.resolved.yaml");
    records.push_back(read_one(directory, part ? parent : directory));
    if (part) records.back().label = own.filename().string();
    return records;
  }
  size_t waiting = 0;
  std::string trouble;
  for (const auto& [name, setting] : combinations_in(directory, &trouble)) {
    const std::string path = directory + "/" + name;
    if (name.empty() || !holds_a_run(path)) {
      waiting += name.empty() || !file_exists(directory + "/config.resolved.yaml") ? 0u : 1u;
      continue;
    }
    records.push_back(read_one(path, directory));
    records.back().label = name;
    records.back().setting = setting;
  }
  if (records.empty()) {
    throw Error(ExitCode::kNoInput, directory, "not a run directory (expected result.json or archive.jsonl)",
                "eep run prints its directory at the end");
  }
  const auto warn = [&](const std::string& line) {
    records[0].notes.push_back(line);
    records[0].warnings.push_back(line);
  };
  if (!trouble.empty()) warn("The sweep is not known, runs are named by their directories: " + trouble + ".");
  if (waiting > 0)
    warn(fmt::format("{} more {} of the sweep {} not begun.", waiting, waiting == 1 ? "run" : "runs",
                     waiting == 1 ? "has" : "have"));
  return records;
}

}  // namespace eep
