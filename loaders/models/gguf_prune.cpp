#include "loaders/models/gguf_prune.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <string_view>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "kernels/common/interrupt.h"
#include "loaders/models/families.h"

namespace eep {

namespace {

constexpr int64_t kMaxLayers = 4096;
constexpr size_t kPartBytes = size_t{1} << 24;

// blk.LAYER.REST
struct LayerName {
  int32_t layer = -1;
  std::string_view rest;
};

LayerName layer_name(std::string_view name) {
  constexpr std::string_view kBlock = "blk.";
  LayerName found;
  if (!name.starts_with(kBlock)) return found;
  const char* const end = name.data() + name.size();
  const auto [at, error] = std::from_chars(name.data() + kBlock.size(), end, found.layer);
  if (error != std::errc() || at == end || *at != '.') return {};
  found.rest = std::string_view(at + 1, static_cast<size_t>(end - at - 1));
  return found;
}

// One expert's own tensor, as older Mixtral files have it: ffn_PART.EXPERT.weight
struct SingleExpert {
  std::string before, after;
  int32_t expert = -1;
};

std::optional<SingleExpert> single_expert(std::string_view rest) {
  for (const std::string_view part : {"ffn_gate.", "ffn_up.", "ffn_down."}) {
    if (!rest.starts_with(part)) continue;
    SingleExpert found;
    const char* const end = rest.data() + rest.size();
    const auto [at, error] = std::from_chars(rest.data() + part.size(), end, found.expert);
    if (error != std::errc() || at == end || *at != '.' || found.expert < 0) return std::nullopt;
    found.before = part;
    found.after = std::string(at, end);
    return found;
  }
  return std::nullopt;
}

// Router rows and biases, and the weights of all experts: the shared ones' names end in shexp.
bool has_expert_axis(std::string_view rest) {
  return rest.starts_with("ffn_gate_inp.") || rest.starts_with("exp_probs_b") ||
         rest.find("_exps.") != std::string_view::npos;
}

void append_number(std::string& text, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
}

void append_text(std::string& text, const std::string& value) {
  append_number(text, value.size(), 8);
  text += value;
}

size_t padding_of(size_t bytes, size_t alignment) { return (alignment - bytes % alignment) % alignment; }

// What the file's keys say, and the rows that each layer keeps.
class Selection {
 public:
  Selection(const GgufFile& file, const GgufPruning& pruning)
      : file_(file), pruning_(pruning), prefix_(file.text("general.architecture") + ".") {
    if (file.find_value("split.count") != nullptr && file.integer("split.count", 0, 1 << 16) > 1) {
      throw Error(ExitCode::kData, file.where, "split.count: one of several files (expected a whole model)",
                  "llama.cpp's gguf-split --merge joins them");
    }
    if (file.find_value(prefix_ + "expert_count") == nullptr) fail("has no experts (expert_count)");
    experts_ = file.integer(prefix_ + "expert_count", 1, kMaxExperts);
    layers_ = file.integer(prefix_ + "block_count", 1, kMaxLayers);
    check_info();
    read_groups();
    check_router();
    cover_layers();
  }

  int64_t experts() const { return experts_; }
  int64_t kept() const { return kept_; }
  int64_t top_k() const { return std::min<int64_t>(pruning_.plan.top_k, kept_); }
  const std::string& prefix() const { return prefix_; }
  const std::vector<int32_t>& rows(int32_t layer) const { return rows_.at(layer); }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(ExitCode::kData, file_.where, what); }
  [[noreturn]] static void fail_plan(const std::string& what, const std::string& hint = {}) {
    throw Error(ExitCode::kData, "plan", what, hint);
  }

  int64_t optional(const char* key, int64_t fallback) const {
    const std::string name = prefix_ + key;
    return file_.find_value(name) == nullptr ? fallback : file_.integer(name, 0, kMaxExperts);
  }

  const FamilyRow* family() const {
    for (const FamilyRow& row : families()) {
      if (!row.gguf.empty() && std::string(row.gguf) + "." == prefix_) return &row;
    }
    return nullptr;
  }

  void check_info() const {
    const PlanInfo& info = pruning_.info;
    const FamilyRow* row = family();
    if (!info.family.empty() && row != nullptr && info.family != family_name(row->family)) {
      fail_plan("made for another family" + expected_got(family_name(row->family), printable(info.family)));
    }
    if (info.experts != 0 && info.experts != experts_)
      fail_plan(fmt::format("made for {} experts, and the file has {}", info.experts, experts_));
    const int64_t layers = layers_ - optional("nextn_predict_layers", 0);
    if (info.layers != 0 && info.layers != layers)
      fail_plan(fmt::format("made for {} layers, and the file has {}", info.layers, layers));
  }

  void read_groups() {
    const std::vector<PlanGroup>& groups = pruning_.plan.groups;
    kept_ = groups.front().kept;
    if (skips_experts(pruning_.plan))
      fail_plan("it skips experts token by token (skip_below), and a GGUF file's router does not",
                "--format native, from the checkpoint, writes a directory that eep reads");
    for (size_t i = 0; i < groups.size(); ++i) {
      const PlanGroup& group = groups[i];
      if (group.experts != experts_)
        fail_plan(
            fmt::format("groups[{}] is of {} experts, and the file has {}", i, group.experts, experts_));
      if (group.kept != kept_) {
        fail_plan(
            fmt::format("groups[0] keeps {} experts, groups[{}] {}, and a GGUF file holds one number for "
                        "all layers",
                        kept_, i, group.kept));
      }
      const std::vector<int32_t> rows = one_hot_rows(group.router_mapping, group.kept, group.experts);
      if (rows.empty() || rows != one_hot_rows(group.expert_merging, group.kept, group.experts)) {
        fail_plan(
            fmt::format("groups[{}] merges experts or mixes router rows, which would have to be quantised "
                        "again",
                        i),
            "export from the 16-bit checkpoint, or select experts only (--merged-router, eep select)");
      }
      for (const int32_t layer : group.layers) {
        if (!rows_.emplace(layer, rows).second) fail_plan(fmt::format("layer {} is in two groups", layer));
      }
    }
  }

  void check_router() const {
    const int64_t groups = std::max<int64_t>(optional("expert_group_count", 1), 1);
    const int64_t used = optional("expert_group_used_count", groups);
    if (kept_ % groups != 0 || kept_ / groups * used < top_k()) {
      fail_plan(
          fmt::format("the router takes experts from {} of {} groups", used, groups) +
          expected_got(fmt::format("a multiple of that many kept, enough for {} active", top_k()), kept_));
    }
    if (pruning_.plan.router_space == RouterSpace::kLogits || kept_ == experts_) return;
    const FamilyRow* row = family();
    const GgufValue* normalised = file_.find_value(prefix_ + "expert_weights_norm");
    constexpr int64_t kSigmoid = 2, kOfChosen = 3;  // of llama.cpp's gating functions
    const int64_t gating = optional("expert_gating_func", 0);
    const bool cancels = (row != nullptr && (row->renormalises || row->gguf_renormalises)) ||
                         (normalised != nullptr && normalised->integers == std::vector<int64_t>{1}) ||
                         gating == kSigmoid || gating == kOfChosen;
    if (!cancels) {
      fail_plan(
          "selects among the probabilities of all experts, and without renormalisation a smaller softmax "
          "gives "
          "other weights",
          "plans in router space logits say what a pruned file computes");
    }
  }

  // Every layer with experts is in the plan, and every layer of the plan has some.
  void cover_layers() {
    std::set<int32_t> sparse;
    for (const GgufTensor& tensor : file_.tensors) {
      const LayerName name = layer_name(tensor.name);
      if (name.layer >= 0 && (has_expert_axis(name.rest) || single_expert(name.rest)))
        sparse.insert(name.layer);
    }
    for (const auto& [layer, rows] : rows_) {
      if (sparse.count(layer) == 0) fail_plan(fmt::format("layer {} of the file has no experts", layer));
    }
    const int64_t nextn = optional("nextn_predict_layers", 0);
    const std::vector<int32_t> last = rows_.rbegin()->second;
    for (const int32_t layer : sparse) {
      if (rows_.count(layer) != 0) continue;
      if (layer < layers_ - nextn)
        fail_plan(fmt::format("layer {} of the file has experts and is in no group", layer));
      if (!pruning_.prunes_nextn) {
        throw Error(ExitCode::kData, fmt::format("blk.{}", layer),
                    "a layer for multi-token prediction with experts, which a plan says nothing of",
                    "--mtp prune selects the last layer's experts in it");
      }
      rows_.emplace(layer, last);
    }
  }

  const GgufFile& file_;
  const GgufPruning& pruning_;
  std::string prefix_;  // of the architecture's keys
  int64_t experts_ = 0, layers_ = 0, kept_ = 0;
  std::map<int32_t, std::vector<int32_t>> rows_;  // by layer
};

// The metadata as stored but for two numbers.
std::string patched_entries(const GgufFile& file, const Selection& selection) {
  std::string entries(reinterpret_cast<const char*>(file.entries), file.entries_bytes);
  const auto patch = [&](const std::string& key, int64_t number) {
    const GgufValue* value = file.find_value(key);
    if (value == nullptr) return;
    file.integer(key, 0, kMaxExperts);  // of a kind that can be replaced
    std::string bytes;
    append_number(bytes, static_cast<uint64_t>(number), value->bytes);
    entries.replace(value->at - file.entries_at, value->bytes, bytes);
  };
  patch(selection.prefix() + "expert_count", selection.kept());
  patch(selection.prefix() + "expert_used_count", selection.top_k());
  return entries;
}

// A tensor of the result: which parts of the source's it is made of.
struct Pruned {
  std::string name;
  const GgufTensor* source = nullptr;
  std::vector<int64_t> shape;
  std::vector<int32_t> rows;  // on the first axis; empty: all
};

std::optional<Pruned> pruned(const GgufFile& file, const GgufTensor& tensor, const Selection& selection) {
  Pruned out{tensor.name, &tensor, tensor.shape, {}};
  const LayerName name = layer_name(tensor.name);
  if (name.layer < 0) return out;
  if (const std::optional<SingleExpert> single = single_expert(name.rest)) {
    if (single->expert >= selection.kept()) return std::nullopt;
    const int32_t expert = selection.rows(name.layer)[static_cast<size_t>(single->expert)];
    const std::string stored =
        fmt::format("blk.{}.{}{}{}", name.layer, single->before, expert, single->after);
    out.source = file.find(stored);
    if (out.source == nullptr) throw Error(ExitCode::kData, stored, "missing tensor");
    out.shape = out.source->shape;
    return out;
  }
  if (!has_expert_axis(name.rest)) return out;
  const int64_t experts = selection.experts();
  const bool whole = tensor.shape.size() > 1 || gguf_block_elements(tensor.type) == 1;
  if (tensor.shape[0] != experts || !whole) {
    throw Error(ExitCode::kData, printable(tensor.name),
                "not one row an expert" + expected_got(experts, tensor.shape[0]));
  }
  out.rows = selection.rows(name.layer);
  out.shape[0] = selection.kept();
  return out;
}

}  // namespace

PrunedGguf::PrunedGguf(const GgufFile& file, const GgufPruning& pruning) {
  const Selection selection(file, pruning);
  std::vector<Pruned> tensors;
  for (const GgufTensor& tensor : file.tensors) {
    if (std::optional<Pruned> left = pruned(file, tensor, selection)) tensors.push_back(std::move(*left));
  }
  header_ = "GGUF";
  append_number(header_, file.version, 4);
  append_number(header_, tensors.size(), 8);
  append_number(header_, file.metadata.size(), 8);
  header_ += patched_entries(file, selection);
  size_t offset = 0;
  for (const Pruned& tensor : tensors) {
    append_text(header_, tensor.name);
    append_number(header_, tensor.shape.size(), 4);
    for (size_t axis = tensor.shape.size(); axis-- > 0;)
      append_number(header_, static_cast<uint64_t>(tensor.shape[axis]), 8);
    append_number(header_, static_cast<uint32_t>(tensor.source->type), 4);
    append_number(header_, offset, 8);
    const size_t first = parts_.size(), row = tensor.source->bytes / static_cast<size_t>(selection.experts());
    if (tensor.rows.empty()) parts_.push_back({tensor.source->data, tensor.source->bytes, 0});
    for (const int32_t expert : tensor.rows)
      parts_.push_back({tensor.source->data + static_cast<size_t>(expert) * row, row, 0});
    size_t bytes = 0;
    for (size_t part = first; part < parts_.size(); ++part) bytes += parts_[part].bytes;
    parts_.back().padding = padding_of(bytes, file.alignment);
    offset += bytes + parts_.back().padding;
  }
  header_.append(padding_of(header_.size(), file.alignment), '\0');
  bytes_ = header_.size() + offset;
}

void PrunedGguf::produce(const ByteSink& sink) const {
  sink(header_.data(), header_.size());
  for (const Part& part : parts_) {
    for (size_t at = 0; at < part.bytes; at += kPartBytes) {
      check_interrupted();
      sink(part.data + at, std::min(kPartBytes, part.bytes - at));
    }
    const std::vector<uint8_t> zeros(part.padding, 0);
    if (part.padding > 0) sink(zeros.data(), zeros.size());
  }
}

}  // namespace eep
