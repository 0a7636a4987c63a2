#include "loaders/models/keep_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <string_view>

#include "kernels/common/expected.h"
#include "loaders/formats/json.h"

namespace eep {

namespace {

constexpr int kMaxNesting = 4;

// Names under which programs put what stays and what goes.
constexpr std::array<std::string_view, 22> kKeepNames{
    "keep",         "kept",         "keep_by_layer",    "keep_list",        "keep_lists", "keep_experts",
    "kept_experts", "keep_indices", "kept_indices",     "keep_idx",         "keep_mask",  "retained",
    "retain",       "retained_ids", "retained_experts", "retained_indices", "experts",    "expert_ids",
    "ranking",      "ranked",       "ranked_experts",   "indices"};
constexpr std::array<std::string_view, 15> kDropNames{
    "prune",          "pruned",          "prune_set",   "pruneset", "pruned_experts",  "prune_experts",
    "pruned_indices", "prune_mask",      "drop",        "dropped",  "dropped_experts", "remove",
    "removed",        "removed_experts", "drop_experts"};
// Names that only hold what the others name.
constexpr std::array<std::string_view, 3> kHolders{"layers", "per_layer", "by_layer"};

template <size_t count>
bool among(const std::array<std::string_view, count>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool all_digits(std::string_view text) {
  return !text.empty() && text.size() < 6 && text.find_first_not_of("0123456789") == std::string_view::npos;
}

// The layer that a key names: "3", "model.layers.3.mlp", "layer_3", "blk.3.ffn", "layer3".
std::optional<int32_t> layer_of(const std::string& key) {
  if (all_digits(key)) return std::stoi(key);
  std::vector<std::string> words{""};
  for (const char c : key) {
    const char small = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    if (std::string_view("._ -[]/").find(small) == std::string_view::npos)
      words.back() += small;
    else if (!words.back().empty())
      words.emplace_back();
  }
  for (size_t i = 0; i < words.size(); ++i) {
    for (const std::string_view name : {"layers", "layer", "blk", "block", "blocks", "h"}) {
      if (words[i] == name && i + 1 < words.size() && all_digits(words[i + 1]))
        return std::stoi(words[i + 1]);
      const std::string_view word = words[i];
      if (name != "h" && word.starts_with(name) && all_digits(word.substr(name.size())))
        return std::stoi(words[i].substr(name.size()));
    }
  }
  return std::nullopt;
}

enum class Meaning : uint8_t { kKeep, kDrop };

class Reader {
 public:
  Reader(const ModelConfig& config, int32_t count, const std::string& where)
      : config_(config), experts_(static_cast<int32_t>(config.num_experts)), count_(count), where_(where) {
    for (int32_t layer = 0; layer < static_cast<int32_t>(config.num_layers); ++layer) {
      if (config.sparse[static_cast<size_t>(layer)] != 0) sparse_.push_back(layer);
    }
  }

  KeepList read(const JsonView& root) {
    if (root.has("format")) {
      const JsonView format = root.at("format");
      if (format.is_string() && format.as_string() == "eep-plan")
        root.fail("already a plan: it needs no import");
    }
    layers(root, Meaning::kKeep, 0);
    check_complete();
    return std::move(list_);
  }

 private:
  // What holds lists of several layers.
  void layers(const JsonView& view, Meaning meaning, int depth) {
    if (depth > kMaxNesting) view.fail("nested too deeply for a keep list");
    if (view.is_array()) return array(view, meaning, depth);
    if (!view.is_object()) view.fail_expected("lists of experts by layer");
    check_counts(view);
    std::vector<std::pair<int32_t, std::string>>
        found;  // what else stands beside the lists says nothing here
    bool by_layer = true;
    for (const auto& [key, value] : view.value().items()) {
      if (!value.is_structured()) continue;
      const std::optional<int32_t> index = layer_of(key);
      if (index) found.emplace_back(*index, key);
      by_layer = by_layer && index.has_value();
    }
    if (by_layer && !found.empty()) {
      for (const auto& [index, key] : found) layer(index, view.at(key), meaning);
      return;
    }
    const auto [name, inner] = named(view, meaning);
    if (name.empty()) {
      view.fail(
          "no lists of experts (expected layers as keys, \"0\" or \"model.layers.0.mlp\", or a key such "
          "as \"keep\" or \"pruned\")");
    }
    layers(view.at(name), inner, depth + 1);
  }

  // The member of an object that says what stays, else what goes, else what holds either.
  std::pair<std::string, Meaning> named(const JsonView& view, Meaning meaning) const {
    std::string keep, drop, holder;
    for (const auto& [key, value] : view.value().items()) {
      if (!value.is_structured()) continue;
      std::string name = key;
      for (char& c : name) c = c == '-' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
      if (keep.empty() && among(kKeepNames, name)) keep = key;
      if (drop.empty() && among(kDropNames, name)) drop = key;
      if (holder.empty() && among(kHolders, name)) holder = key;
    }
    if (!keep.empty()) return {keep, Meaning::kKeep};
    if (!drop.empty()) return {drop, Meaning::kDrop};
    return {holder, meaning};
  }

  void array(const JsonView& view, Meaning meaning, int depth) {
    const size_t size = view.size();
    const bool objects = size > 0 && view.at(size_t{0}).is_object();
    if (objects) {
      for (size_t i = 0; i < size; ++i) {
        const JsonView each = view.at(i).as_object();
        if (each.has("layer") || each.has("layer_idx") || each.has("layer_index")) {
          const char* key = each.has("layer") ? "layer" : each.has("layer_idx") ? "layer_idx" : "layer_index";
          layer(static_cast<int32_t>(each.at(key).as_int(0, config_.num_layers - 1)), each, meaning);
        } else {
          layers(each, meaning, depth + 1);
        }
      }
      return;
    }
    const bool every = size == static_cast<size_t>(config_.num_layers);
    if (!every && size != sparse_.size()) {
      view.fail("wrong number of lists" +
                expected_got(fmt::format("{}, one a layer with experts", sparse_.size()), size));
    }
    for (size_t i = 0; i < size; ++i) {
      const int32_t index = every ? static_cast<int32_t>(i) : sparse_[i];
      const bool dense = config_.sparse[static_cast<size_t>(index)] == 0;
      if (dense && (view.at(i).is_null() || (view.at(i).is_array() && view.at(i).size() == 0))) continue;
      layer(index, view.at(i), meaning);
    }
  }

  // One layer's list, or an object that holds it.
  void layer(int32_t index, const JsonView& view, Meaning meaning) {
    if (view.is_object()) {
      check_counts(view);
      const auto [name, inner] = named(view, meaning);
      if (name.empty()) view.fail("no list of experts (expected a key such as \"keep\" or \"pruned\")");
      return layer(index, view.at(name), inner);
    }
    if (std::find(sparse_.begin(), sparse_.end(), index) == sparse_.end()) {
      view.fail(fmt::format("layer {} of the model has no experts (expected {})", index,
                            fmt::format("{}", fmt::join(sparse_, ", "))));
    }
    if (!list_.emplace(index, experts_of(view, meaning)).second) {
      view.fail(fmt::format("layer {} is named twice", index));
    }
  }

  std::vector<int32_t> experts_of(const JsonView& view, Meaning meaning) {
    view.as_array();
    std::vector<int32_t> experts;
    const bool mask = view.size() > 0 && view.at(size_t{0}).value().is_boolean();
    if (mask && view.size() != static_cast<size_t>(experts_)) {
      view.fail("wrong length of a mask" + expected_got(fmt::format("{} experts", experts_), view.size()));
    }
    std::vector<bool> seen(static_cast<size_t>(experts_), false);
    for (size_t i = 0; i < view.size(); ++i) {
      if (mask && !view.at(i).as_bool()) continue;
      const auto expert =
          mask ? static_cast<int32_t>(i) : static_cast<int32_t>(view.at(i).as_int(0, experts_ - 1));
      if (seen[static_cast<size_t>(expert)]) view.at(i).fail(fmt::format("expert {} stands twice", expert));
      seen[static_cast<size_t>(expert)] = true;
      experts.push_back(expert);
    }
    if (meaning == Meaning::kDrop) {
      experts.clear();
      for (int32_t expert = 0; expert < experts_; ++expert) {
        if (!seen[static_cast<size_t>(expert)]) experts.push_back(expert);
      }
    }
    return counted(std::move(experts), view, mask || meaning == Meaning::kDrop);
  }

  std::vector<int32_t> counted(std::vector<int32_t> experts, const JsonView& view, bool unordered) {
    const auto listed = static_cast<int32_t>(experts.size());
    if (listed == 0) view.fail("no expert of the layer stays (expected at least 1)");
    if (listed < count_ || (listed > count_ && count_ > 0 && unordered)) {
      view.fail("wrong number of experts that stay" +
                expected_got(fmt::format("{} as --experts says", count_), listed));
    }
    if (count_ > 0) experts.resize(static_cast<size_t>(count_));
    std::sort(experts.begin(), experts.end());
    return experts;
  }

  // Counts of the original model that some programs write beside the lists.
  void check_counts(const JsonView& view) const {
    for (const char* key : {"original_experts", "original_num_experts", "num_experts"}) {
      if (!view.has_value(key) || !view.at(key).is_number()) continue;
      if (view.at(key).as_int(0, INT32_MAX) != experts_) {
        view.at(key).fail_expected(fmt::format("{}, the experts of the model", experts_));
      }
    }
  }

  void check_complete() const {
    std::vector<int32_t> missing;
    for (const int32_t layer : sparse_) {
      if (list_.count(layer) == 0) missing.push_back(layer);
    }
    if (!missing.empty()) {
      throw Error(ExitCode::kData, where_,
                  fmt::format("no list for layer {} (every layer with experts needs one)",
                              fmt::format("{}", fmt::join(missing, ", "))));
    }
    const bool whole = std::all_of(list_.begin(), list_.end(), [&](const auto& entry) {
      return static_cast<int32_t>(entry.second.size()) == experts_;
    });
    if (whole && count_ == 0) {
      throw Error(ExitCode::kData, where_, "every list holds all experts: rankings, or nothing is pruned",
                  "--experts N says how many of a ranking stay");
    }
  }

  const ModelConfig& config_;
  int32_t experts_, count_;
  std::string where_;
  std::vector<int32_t> sparse_;
  KeepList list_;
};

// JSON Lines as one array, so that lines keep their numbers.
std::string as_one_text(const std::string& text) {
  if (Json::accept(text)) return text;
  const size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string::npos || text[begin] != '{') return text;
  const size_t end = text.find('\n', begin);
  if (end == std::string::npos || !Json::accept(text.substr(begin, end - begin))) return text;
  std::string array = "[";
  bool first = true;
  for (size_t at = 0; at < text.size();) {
    const size_t stop = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, stop - at);
    const bool blank = line.find_first_not_of(" \t\r") == std::string::npos;
    if (!blank && !first) array += ',';
    first = first && blank;
    array += line + "\n";
    at = stop + 1;
  }
  return array + "]";
}

}  // namespace

KeepList parse_keep_list(const std::string& text, const std::string& where, const ModelConfig& config,
                         int32_t count) {
  const JsonDocument document(as_one_text(text), where);
  return Reader(config, count, where).read(document.root());
}

ExpertPlan keep_list_plan(const KeepList& list, int32_t experts, int32_t top_k) {
  ExpertPlan plan;
  plan.top_k = top_k;
  plan.router_space = RouterSpace::kLogits;
  for (const auto& [layer, kept] : list) plan.groups.push_back(one_hot_group({layer}, kept, experts));
  return plan;
}

std::string format_keep_list(const ExpertPlan& plan) {
  KeepList list;
  if (skips_experts(plan)) {
    throw Error(ExitCode::kUsage, "--export-keep-list",
                "a list of kept experts cannot say what this plan does: it skips experts token by token");
  }
  for (const PlanGroup& group : plan.groups) {
    std::vector<int32_t> kept = one_hot_rows(group.expert_merging, group.kept, group.experts);
    if (kept.empty() || group.router_mapping != group.expert_merging) {
      throw Error(
          ExitCode::kUsage, "--export-keep-list",
          "a list of kept experts cannot say what this plan does: it merges experts or mixes gate rows");
    }
    std::sort(kept.begin(), kept.end());
    for (const int32_t layer : group.layers) list[layer] = kept;
  }
  std::string text = "{";
  for (const auto& [layer, kept] : list) {
    text += fmt::format("{}\n  \"{}\": [{}]", text.size() > 1 ? "," : "", layer, fmt::join(kept, ", "));
  }
  return text + "\n}\n";
}

}  // namespace eep
