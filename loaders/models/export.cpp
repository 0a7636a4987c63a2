// What can be expressed, and the files of an export.
#include "loaders/models/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "loaders/formats/file.h"
#include "loaders/formats/json.h"
#include "loaders/formats/safetensors.h"
#include "loaders/models/export_card.h"
#include "loaders/models/export_config.h"
#include "loaders/models/export_directory.h"
#include "loaders/models/families.h"
#include "loaders/models/finite.h"

namespace eep {

namespace {

namespace fs = std::filesystem;

constexpr size_t kCopyBlock = size_t{1} << 22;
constexpr const char* kNamedTemplates = "additional_chat_templates";  // transformers' name for it

std::string lower_case(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return name;
}

// Of a file or a folder; people spell licences in any case.
bool is_licence(const std::string& name) {
  static constexpr const char* kParts[] = {"license", "licence",   "notice",
                                           "copying", "copyright", "use_policy"};
  static constexpr const char* kPrefixes[] = {"usage",      "eula",    "terms",   "legal",
                                              "disclaimer", "patents", "authors", "attribution"};
  const std::string small = lower_case(name);
  return std::any_of(std::begin(kParts), std::end(kParts),
                     [&](const char* part) { return small.find(part) != std::string::npos; }) ||
         std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                     [&](const char* prefix) { return small.starts_with(prefix); });
}

bool is_side_file(const std::string& name) {
  static constexpr const char* kNames[] = {"merges.txt",        "special_tokens_map.json",
                                           "added_tokens.json", "generation_config.json",
                                           "spiece.model",      "tekken.json"};
  static constexpr const char* kPrefixes[] = {"tokenizer", "chat_template", "vocab."};
  // Code of the model's own is named by auto_map of its configurations.
  static constexpr const char* kEnds[] = {
      ".tiktoken", ".jinja", "processor_config.json", "extractor_config.json", "tokenizer_config.json",
      ".py"};
  const std::string small = lower_case(name);
  const auto same = [&](const char* known) { return name == known; };
  const auto starts = [&](const char* known) { return small.rfind(known, 0) == 0; };
  const auto ends = [&](const char* known) { return name.ends_with(known); };
  return is_licence(name) || std::any_of(std::begin(kNames), std::end(kNames), same) ||
         std::any_of(std::begin(kPrefixes), std::end(kPrefixes), starts) ||
         std::any_of(std::begin(kEnds), std::end(kEnds), ends);
}

bool permutes_all(const PlanGroup& group) {
  std::vector<int32_t> rows = one_hot_rows(group.router_mapping, group.kept, group.experts);
  std::sort(rows.begin(), rows.end());
  return static_cast<int32_t>(rows.size()) == group.experts &&
         std::adjacent_find(rows.begin(), rows.end()) == rows.end();
}

std::vector<float> map_row(const PlanGroup& group, int32_t row) {
  const auto begin = group.router_mapping.begin() + int64_t{row} * group.experts;
  return {begin, begin + group.experts};
}

std::string bytes_of(const StreamedTensor& tensor) {
  std::string bytes;
  tensor.produce([&](const void* data, size_t size) { bytes.append(static_cast<const char*>(data), size); });
  return bytes;
}

// Rows of two experts as they are: what ties them is the source.
bool tied_in_source(const PlanGroup& group, int32_t a, int32_t b) {
  const std::vector<int32_t> first = one_hot_rows(map_row(group, a), 1, group.experts),
                             second = one_hot_rows(map_row(group, b), 1, group.experts);
  return !first.empty() && !second.empty() && first != second;
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

// One number of active experts for all layers: what counts by layer need.
std::string top_k_obstacle(const ExpertPlan& plan) {
  const auto fewer = [](const PlanGroup& a, const PlanGroup& b) { return a.kept < b.kept; };
  const auto [least, most] = std::minmax_element(plan.groups.begin(), plan.groups.end(), fewer);
  if (least->kept == most->kept || least->kept >= plan.top_k) return {};
  return fmt::format(
      "layer {} keeps {} experts, fewer than the {} active ones, and config.json holds one number of active "
      "experts for all layers",
      least->layers[0], least->kept, plan.top_k);
}

}  // namespace

std::string hf_obstacle(const ModelConfig& config, const ExpertPlan& plan, bool per_layer) {
  if (per_layer) {
    if (std::string obstacle = top_k_obstacle(plan); !obstacle.empty()) return obstacle;
  }
  if (skips_experts(plan)) return "it skips experts token by token (skip_below), and a stock router does not";
  for (size_t i = 0; i < plan.groups.size() && !per_layer; ++i) {
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
    if (group.kept % config.router_groups != 0) {
      return fmt::format("groups[{}] keeps {} experts, which the router's {} groups do not divide", i,
                         group.kept, config.router_groups);
    }
    if (plan.router_space == RouterSpace::kLogits) continue;
    if (one_hot_rows(group.router_mapping, group.kept, group.experts).empty()) {
      return fmt::format(
          "groups[{}] maps the router's probabilities with rows that are not one-hot, and a stock router has "
          "no map after its softmax",
          i);
    }
    const bool softmax = config.router_score == RouterScore::kSoftmax;  // a sigmoid knows no other expert
    if (softmax && !config.norm_topk_prob && !permutes_all(group)) {
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

bool keeps_all_experts(const ExpertPlan& plan) {
  return std::all_of(plan.groups.begin(), plan.groups.end(), [](const PlanGroup& group) {
    return permutes_all(group) && group.router_mapping == group.expert_merging;
  });
}

std::string exported_config(const std::string& text, const RawModel& model, const ExpertPlan& plan,
                            ExportFormat format, MtpExport mtp) {
  std::string edited = text;
  if (mtp == MtpExport::kDrop && !mtp_tensors(model).empty()) {
    for (const char* key : {"num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers"})
      edited = with_config_number(edited, key, 0);
  }
  if (model.config.stored_in_codes() && !stays_coded(model, plan))
    edited = without_config_key(edited, "quantization_config");
  if (format == ExportFormat::kNative) return edited;
  const ModelConfig& config = model.config;
  int32_t least = plan.groups[0].kept;
  std::vector<int64_t> counts(static_cast<size_t>(config.num_layers),
                              config.num_experts);  // dense: untouched
  for (const PlanGroup& group : plan.groups) {
    least = std::min(least, group.kept);
    for (const int32_t layer : group.layers) counts[static_cast<size_t>(layer)] = group.kept;
  }
  const int32_t top_k = std::min(plan.top_k, least);
  if (format == ExportFormat::kHf) return with_expert_counts(edited, least, top_k);
  return with_layer_counts(edited, config.sparse, counts, config.num_experts, top_k);
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

std::vector<RouterTie> router_ties(const RawModel& model, const ExpertPlan& plan, const Device& device) {
  std::vector<RouterTie> ties;
  const std::vector<StreamedTensor> tensors = export_tensors(model, plan, ExportFormat::kHf, device);
  const FamilyRow& names = family_row(model.config.family);
  const std::string gate = std::string(".") + names.router;
  const std::string gate_bias = names.router_bias == nullptr ? "." : std::string(".") + names.router_bias;
  std::map<std::string, std::string> biases;  // they tell rows apart
  for (const StreamedTensor& tensor : tensors) {
    const std::string& name = tensor.spec.name;
    if (name.ends_with(gate_bias)) biases[name] = bytes_of(tensor);
  }
  for (const StreamedTensor& tensor : tensors) {
    const std::string& name = tensor.spec.name;
    if (!name.ends_with(gate)) continue;
    const std::string bytes = bytes_of(tensor);
    const std::string bias = biases[name.substr(0, name.size() - gate.size()) + gate_bias];
    const int32_t layer = std::stoi(name.substr(std::string_view("model.layers.").size()));
    const auto group = std::find_if(plan.groups.begin(), plan.groups.end(), [&](const PlanGroup& each) {
      return std::find(each.layers.begin(), each.layers.end(), layer) != each.layers.end();
    });
    if (group == plan.groups.end()) continue;  // not one that the plan prunes
    std::string pairs;
    for (int32_t row = 1; row < group->kept; ++row) {
      for (int32_t other = 0; other < row; ++other) {
        const auto row_of = [&](std::string_view all, int32_t r) {
          const size_t width = all.size() / static_cast<size_t>(group->kept);
          return all.substr(static_cast<size_t>(r) * width, width);
        };
        const bool equal =
            row_of(bytes, row) == row_of(bytes, other) && row_of(bias, row) == row_of(bias, other);
        if (!equal || tied_in_source(*group, other, row)) continue;
        const bool same = map_row(*group, row) == map_row(*group, other);
        pairs += fmt::format("{}{} and {}{}", pairs.empty() ? "" : ", ", other, row,
                             same ? " (identical in the plan)" : "");
        break;
      }
    }
    if (pairs.empty()) continue;
    ties.push_back({name, fmt::format("gate rows {} are equal in {}: these experts tie, and the router takes "
                                      "one of them at every token",
                                      pairs, dtype_name(tensor.spec.dtype))});
  }
  return ties;
}

namespace {

// Adds the files of a folder that are wanted, and those of its folders, as FOLDER/NAME.
void add_folder(const std::string& directory, const std::string& folder, bool (*wanted)(const std::string&),
                std::vector<std::string>* names) {
  const fs::path root = join_path(directory, folder);
  std::error_code error;
  fs::recursive_directory_iterator entry(root, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().lexically_relative(root).generic_string();
    if (wanted(name) && !directory_exists(entry->path().string())) names->push_back(folder + "/" + name);
  }
  if (error) throw Error(ExitCode::kIo, root.string(), "cannot read the directory: " + error.message());
}

}  // namespace

std::vector<std::string> side_files(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (!directory_exists(entry.path().string())) {
      if (is_side_file(name)) names.push_back(name);
    } else if (name == kNamedTemplates) {
      const auto is_template = [](const std::string& file) {
        return file.ends_with(".jinja") && file.find('/') == std::string::npos;
      };
      add_folder(directory, name, is_template, &names);
    } else if (is_licence(name)) {
      add_folder(
          directory, name, [](const std::string&) { return true; }, &names);
    }
  }
  if (error) throw Error(ExitCode::kIo, directory, "cannot read the directory: " + error.message());
  std::sort(names.begin(), names.end());
  return names;
}

void copy_side_files(const std::string& source, const std::string& target) {
  for (const std::string& name : side_files(source)) {
    std::error_code error;
    fs::create_directories(fs::path(join_path(target, name)).parent_path(), error);
    if (error) throw Error(ExitCode::kIo, target, "cannot create the directory: " + error.message());
    copy_file(join_path(source, name), join_path(target, name));
  }
}

void export_checkpoint(const RawModel& model, const std::string& source, const ExpertPlan& plan,
                       const PlanInfo& info, const ExportOptions& options, const std::string& out) {
  const ModelConfig& config = model.config;
  const bool native = options.format == ExportFormat::kNative;
  if (model.plan) {
    throw Error(ExitCode::kData, source,
                "already is the result of a plan (a native export, or counts by layer)",
                "export from the original model");
  }
  const bool per_layer = options.format == ExportFormat::kHfPerLayer;
  if (const std::string obstacle = native ? "" : hf_obstacle(config, plan, per_layer); !obstacle.empty()) {
    throw Error(
        ExitCode::kData, "plan", "a stock checkpoint cannot express it: " + obstacle,
        hf_obstacle(config, plan, true).empty()
            ? "--format native writes a directory that eep reads, --format hf-per-layer one for loaders "
              "of counts by layer"
            : "--format native writes a directory that eep reads");
  }
  ExportDirectory directory(out);
  write_file_atomic(
      directory.file(native ? "eep_config.json" : "config.json"),
      exported_config(read_file(join_path(source, "config.json")), model, plan, options.format, options.mtp));
  if (native)
    write_plan(directory.file("plan.json"), native_plan(plan), plan_info(config, {}, info.provenance));
  PlanInfo original = info;
  if (original.family.empty()) original = plan_info(config, {}, info.provenance);
  original.hash = options.source_hash;
  write_plan(directory.file("eep_plan.json"), plan, original);
  copy_side_files(source, directory.path());
  const size_t limit = options.shard_bytes > 0 ? options.shard_bytes : source_limit(model);
  const std::vector<StreamedTensor> tensors =
      export_tensors(model, plan, options.format, options.device, options.mtp);
  try {
    write_shards(directory.path(), native ? "eep" : "model", tensors, limit, options.progress);
  } catch (const Error& error) {
    if (error.code() == ExitCode::kData) require_finite(model);  // names the source's tensor, not the copy's
    throw;
  }
  const ExportFacts facts = export_facts(config, source, plan, info, options);
  write_file_atomic(directory.file("eep_provenance.json"), provenance_text(facts));
  write_file_atomic(directory.file("README.md"), model_card(facts, source));
  directory.commit();
}

}  // namespace eep
