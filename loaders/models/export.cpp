// What can be expressed, and the files of an export.
#include "loaders/models/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/formats/safetensors.h"
#include "loaders/models/export_card.h"
#include "loaders/models/export_config.h"
#include "loaders/models/export_directory.h"

namespace eep {

namespace {

namespace fs = std::filesystem;

constexpr size_t kCopyBlock = size_t{1} << 22;

bool is_side_file(const std::string& name) {
  static constexpr const char* kNames[] = {"merges.txt", "special_tokens_map.json", "added_tokens.json",
                                           "generation_config.json"};
  static constexpr const char* kPrefixes[] = {"tokenizer", "chat_template", "vocab.", "LICENSE", "NOTICE"};
  const auto same = [&](const char* known) { return name == known; };
  const auto starts = [&](const char* known) { return name.rfind(known, 0) == 0; };
  return std::any_of(std::begin(kNames), std::end(kNames), same) ||
         std::any_of(std::begin(kPrefixes), std::end(kPrefixes), starts) || name.ends_with(".tiktoken");
}

bool permutes_all(const PlanGroup& group) {
  std::vector<int32_t> rows = one_hot_rows(group.router_mapping, group.kept, group.experts);
  std::sort(rows.begin(), rows.end());
  return static_cast<int32_t>(rows.size()) == group.experts &&
         std::adjacent_find(rows.begin(), rows.end()) == rows.end();
}

// The largest file of tensors of the source; 0 if it has only one.
size_t source_limit(const RawModel& model) {
  size_t limit = 0;
  if (model.files.size() < 2) return 0;
  for (const MappedFile& file : model.files) limit = std::max(limit, file.size());
  return limit;
}

void copy_file(const std::string& from, const std::string& to) {
  const MappedFile source(from);
  AtomicFile target(to);
  for (size_t at = 0; at < source.size(); at += kCopyBlock) {
    target.write(source.data() + at, std::min(kCopyBlock, source.size() - at));
  }
  target.commit();
}

}  // namespace

std::string hf_obstacle(const ModelConfig& config, const ExpertPlan& plan) {
  for (size_t i = 0; i < plan.groups.size(); ++i) {
    const PlanGroup& group = plan.groups[i];
    if (group.kept != plan.groups[0].kept) {
      return fmt::format(
          "layers keep different numbers of experts ({} in groups[0], {} in groups[{}]), and config.json "
          "holds one number for all layers",
          plan.groups[0].kept, group.kept, i);
    }
  }
  for (size_t i = 0; i < plan.groups.size(); ++i) {
    const PlanGroup& group = plan.groups[i];
    if (plan.router_space == RouterSpace::kLogits) continue;
    if (one_hot_rows(group.router_mapping, group.kept, group.experts).empty()) {
      return fmt::format(
          "groups[{}] maps the router's probabilities with rows that are not one-hot, and a stock router has "
          "no map after its softmax",
          i);
    }
    if (!config.norm_topk_prob && !permutes_all(group)) {
      return fmt::format(
          "groups[{}] selects among the probabilities of all experts, and without renormalisation "
          "(norm_topk_prob is false) a smaller softmax gives other weights",
          i);
    }
  }
  return {};
}

bool hf_bit_exact(const ExpertPlan& plan) {
  return plan.router_space == RouterSpace::kLogits &&
         std::all_of(plan.groups.begin(), plan.groups.end(), [](const PlanGroup& group) {
           return !one_hot_rows(group.router_mapping, group.kept, group.experts).empty();
         });
}

ExpertPlan native_plan(const ExpertPlan& plan) {
  ExpertPlan native = plan;
  for (PlanGroup& group : native.groups) {
    std::vector<int32_t> stored;
    for (int32_t row = 0; row < group.kept; ++row) stored.push_back(row);
    group.expert_merging = one_hot_group({}, stored, group.experts).router_mapping;
  }
  return native;
}

std::vector<std::string> side_files(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (is_side_file(name) && !directory_exists(entry.path().string())) names.push_back(name);
  }
  if (error) throw Error(ExitCode::kIo, directory, "cannot read the directory: " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void copy_side_files(const std::string& source, const std::string& target) {
  for (const std::string& name : side_files(source)) {
    copy_file(join_path(source, name), join_path(target, name));
  }
}

void export_checkpoint(const RawModel& model, const std::string& source, const ExpertPlan& plan,
                       const PlanInfo& info, const ExportOptions& options, const std::string& out) {
  const ModelConfig& config = model.config;
  const bool native = options.format == ExportFormat::kNative;
  if (model.plan) {
    throw Error(ExitCode::kData, source, "already is the result of a plan (a native export)",
                "export from the original model");
  }
  if (const std::string obstacle = native ? "" : hf_obstacle(config, plan); !obstacle.empty()) {
    throw Error(ExitCode::kData, "plan", "a stock checkpoint cannot express it: " + obstacle,
                "--format native writes a directory that eep reads");
  }
  ExportDirectory directory(out);
  const std::string text = read_file(join_path(source, "config.json"));
  const int32_t kept = plan.groups[0].kept, top_k = std::min(plan.top_k, kept);
  if (native) {
    write_file_atomic(directory.file("eep_config.json"), text);
    write_plan(directory.file("plan.json"), native_plan(plan), plan_info(config, {}, info.provenance));
  } else {
    write_file_atomic(directory.file("config.json"), with_expert_counts(text, kept, top_k));
  }
  PlanInfo original = info;
  if (original.family.empty()) original = plan_info(config, {}, info.provenance);
  original.hash = options.source_hash;
  write_plan(directory.file("eep_plan.json"), plan, original);
  copy_side_files(source, directory.path());
  const size_t limit = options.shard_bytes > 0 ? options.shard_bytes : source_limit(model);
  write_shards(directory.path(), native ? "eep" : "model",
               export_tensors(model, plan, options.format, options.device), limit, options.progress);
  const ExportFacts facts = export_facts(config, source, plan, info, options);
  write_file_atomic(directory.file("eep_provenance.json"), provenance_text(facts));
  write_file_atomic(directory.file("README.md"), model_card(facts, source));
  directory.commit();
}

}  // namespace eep
