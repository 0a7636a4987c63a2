#include "loaders/models/tensor_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <string_view>
#include <unordered_set>

#include "kernels/common/error.h"
#include "kernels/common/expected.h"
#include "loaders/formats/file.h"
#include "loaders/formats/json.h"

namespace eep {

namespace {

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (int64_t extent : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(extent);
  return text + "]";
}

DType dtype_of(const std::string& name, const std::string& dtype, Code allowed) {
  for (DType known : {DType::kF32, DType::kF16, DType::kBF16}) {
    if (dtype == dtype_name(known)) return known;
  }
  if (allowed != Code::kNone && dtype == code_name(allowed)) return DType::kBF16;
  throw Error(
      ExitCode::kData, name,
      "dtype not supported" + expected_got(allowed == Code::kNone
                                               ? "F32, F16 or BF16"
                                               : std::string("F32, F16, BF16 or ") + code_name(allowed),
                                           dtype),
      dtype == "F64" ? "save it as F32 or BF16" : "a quantised checkpoint: take the original weights");
}

// NUMBER-of-TOTAL of a shard's name, or {0, 0}.
struct ShardNumber {
  int64_t number = 0, total = 0;
};
ShardNumber shard_number(std::string_view name, const std::string& stem) {
  constexpr std::string_view kOf = "-of-", kEnd = ".safetensors";
  if (!name.starts_with(stem + "-") || !name.ends_with(kEnd)) return {};
  name = name.substr(0, name.size() - kEnd.size()).substr(stem.size() + 1);
  const size_t of = name.find(kOf);
  if (of == std::string_view::npos) return {};
  const auto count = [](std::string_view digits) -> int64_t {
    const bool plain = digits.find_first_not_of("0123456789") == std::string_view::npos;
    return plain && !digits.empty() && digits.size() <= 9 ? std::stoll(std::string(digits)) : 0;
  };
  return {count(name.substr(0, of)), count(name.substr(of + kOf.size()))};
}

// What to do with a folder without weights that are read.
std::string what_lies_there(const std::string& directory) {
  std::error_code error;
  const auto names = [&](const std::string& folder) {
    std::vector<std::string> found;
    for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
         entry.increment(error))
      found.push_back(entry->path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  };
  const std::string snapshots = join_path(directory, "snapshots");  // of the cache of huggingface_hub
  for (const std::string& revision :
       directory_exists(snapshots) ? names(snapshots) : std::vector<std::string>{})
    return "a folder of a download cache: name the revision's, " + join_path(snapshots, revision);
  for (const std::string& name : names(directory)) {
    if (name.ends_with(".gguf"))
      return "convert the GGUF file: eep convert " + join_path(directory, name) + " --out DIR";
    if (name.ends_with(".bin") || name.ends_with(".pt") || name.ends_with(".pth"))
      return printable(name) + " is in another format: save the model as safetensors";
  }
  return "weights in other formats are not read (eep convert reads .gguf)";
}

bool is_quantised(std::string_view name) {
  return name.ends_with(".qweight") || name.ends_with("_packed") || name.ends_with("_scale") ||
         name.ends_with("_scale_inv") || name.ends_with(".qzeros") || name.ends_with(".scales") ||
         name.ends_with("_blocks");
}

}  // namespace

TensorTable::TensorTable(const std::string& directory, const std::string& stem) {
  const std::string single = join_path(directory, stem + ".safetensors");
  const std::string index = join_path(directory, stem + ".safetensors.index.json");
  if (is_there(single)) {
    add_file(single);
  } else if (is_there(index)) {
    add_shards(directory, index);
  } else if (!add_shards_without_index(directory, stem)) {
    fail_missing(single, "no such file, and no " + stem + ".safetensors.index.json",
                 what_lies_there(directory));
  }
}

void TensorTable::fail_missing_tensor(const std::string& name) const {
  static constexpr std::string_view kKnown[] = {"w1.weight",
                                                "w2.weight",
                                                "w3.weight",
                                                "gate_proj.weight",
                                                "up_proj.weight",
                                                "down_proj.weight",
                                                "q_proj.weight",
                                                "k_proj.weight",
                                                "v_proj.weight",
                                                "o_proj.weight",
                                                "q_proj.bias",
                                                "k_proj.bias",
                                                "v_proj.bias",
                                                "q_norm.weight",
                                                "k_norm.weight",
                                                "gate.weight",
                                                "norm.weight",
                                                "shared_expert_gate.weight",
                                                "router.weight",
                                                "router.bias",
                                                "sinks",
                                                "o_proj.bias",
                                                "experts.down_proj",
                                                "experts.gate_up_proj",
                                                "input_layernorm.weight",
                                                "post_attention_layernorm.weight",
                                                "embed_tokens.weight"};
  const size_t last = name.rfind('.'), owner = last == std::string::npos ? last : name.rfind('.', last - 1);
  const std::string stem = name.substr(0, owner == std::string::npos ? 0 : owner + 1);
  const auto of_gpt_oss = [](std::string_view text) {
    return text.ends_with("_proj_blocks") || text.ends_with("_proj_scales") || text.ends_with("_proj_bias");
  };
  const std::string* beside = nullptr;
  for (const auto& [other, item] : tensors_) {
    if (stem.empty() || !other.starts_with(stem)) continue;
    const std::string_view rest = std::string_view(other).substr(stem.size());
    if (std::find(std::begin(kKnown), std::end(kKnown), rest) != std::end(kKnown)) continue;
    if (of_gpt_oss(name) && of_gpt_oss(rest)) continue;
    if (std::count(rest.begin(), rest.end(), '.') > 1 || rest.ends_with("_scale_inv")) continue;
    if (beside == nullptr || other < *beside) beside = &other;
  }
  if (beside == nullptr) throw Error(ExitCode::kData, name, "missing tensor");
  throw Error(ExitCode::kData, name, "missing tensor (beside it lies " + printable(*beside) + ")",
              is_quantised(*beside) ? "a quantised checkpoint: take the original weights" : "");
}

bool TensorTable::has_any(const std::string& prefix) const {
  return std::any_of(tensors_.begin(), tensors_.end(),
                     [&](const auto& tensor) { return tensor.first.starts_with(prefix); });
}

const TensorTable::Item& TensorTable::item(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail_missing_tensor(name);
  return found->second;
}

const std::vector<int64_t>& TensorTable::shape(const std::string& name) const {
  return item(name).entry.shape;
}

bool TensorTable::is_coded(const std::string& name, Code code) const {
  const auto found = tensors_.find(name);
  return found != tensors_.end() && found->second.entry.dtype == code_name(code);
}

Tensor TensorTable::get(const std::string& name, const std::vector<int64_t>& shape, Code allowed) {
  const Item& found = item(name);
  const SafetensorsEntry& entry = found.entry;
  if (entry.shape != shape) {
    throw Error(ExitCode::kData, name,
                "wrong shape" + expected_got(shape_text(shape), shape_text(entry.shape)));
  }
  Tensor tensor;
  tensor.data = const_cast<uint8_t*>(found.data);
  tensor.dtype = dtype_of(name, entry.dtype, allowed);
  tensor.rank = static_cast<int>(shape.size());
  for (size_t axis = 0; axis < shape.size(); ++axis) tensor.shape[axis] = shape[axis];
  tensors_.at(name).used = true;
  used_bytes_ += entry.bytes;
  return tensor;
}

void TensorTable::skip(const std::function<bool(const std::string&)>& known) {
  for (auto& [name, item] : tensors_) {
    if (item.used || !known(name)) continue;
    item.used = true;
    used_bytes_ += item.entry.bytes;
  }
}

void TensorTable::check_all_used() const {
  const std::string* unexpected = nullptr;
  for (const auto& [name, item] : tensors_) {
    if (item.used || name.ends_with(".rotary_emb.inv_freq")) continue;
    if (unexpected == nullptr || name < *unexpected) unexpected = &name;
  }
  if (unexpected != nullptr) {
    throw Error(ExitCode::kData, printable(*unexpected),
                "tensor that the architecture in config.json does not have",
                is_quantised(*unexpected) ? "a quantised checkpoint: take the original weights" : "");
  }
}

void TensorTable::add_file(const std::string& path) {
  SafetensorsFile shard(path);
  for (const SafetensorsEntry& entry : shard.header.entries) {
    const auto [place, inserted] =
        tensors_.emplace(entry.name, Item{entry, shard.data(entry), files_.size()});
    if (!inserted) {
      throw Error(ExitCode::kData, printable(entry.name),
                  "in two shards (" + files_[place->second.file].path() + " and " + path + ")");
    }
  }
  files_.push_back(std::move(shard.file));
}

void TensorTable::add_shards(const std::string& directory, const std::string& index_path) {
  const JsonDocument document = JsonDocument::read(index_path);
  const JsonView map = document.root().at("weight_map").as_object();
  std::unordered_map<std::string, size_t> shards;  // file name to its place in files_
  for (const auto& [name, value] : map.value().items()) {
    if (!value.is_string()) map.at(name).fail_expected("a file name");
    const std::string file = value.get<std::string>();
    if (shards.count(file) != 0) continue;
    if (file.empty() || file.find_first_of(std::string_view("/\0", 2)) != std::string::npos || file == "." ||
        file == "..") {
      map.at(name).fail("not the name of a file in this directory");
    }
    shards.emplace(file, files_.size());
    add_file(join_path(directory, file));
  }
  std::unordered_set<std::string_view> listed;
  for (const auto& [name, value] : map.value().items()) {
    const auto found = tensors_.find(name);
    const std::string& file = value.get_ref<const std::string&>();
    if (found == tensors_.end()) map.at(name).fail("tensor is not in its shard " + printable(file));
    if (found->second.file != shards.at(file)) {
      map.at(name).fail("tensor is not in its shard" +
                        expected_got(printable(file), files_[found->second.file].path()));
    }
    listed.insert(name);
  }
  if (listed.size() == tensors_.size()) return;
  for (const auto& [name, item] : tensors_) {
    if (listed.count(name) != 0) continue;
    throw Error(ExitCode::kData, files_[item.file].path(),
                "tensor " + printable(name) + " is not listed in the index");
  }
}

// The names of the shards tell which there must be, and their headers what is in them: an index adds nothing.
bool TensorTable::add_shards_without_index(const std::string& directory, const std::string& stem) {
  const std::string index = stem + ".safetensors.index.json";
  std::map<int64_t, std::string> shards;
  int64_t total = 0;
  std::error_code error;
  std::filesystem::directory_iterator entry(directory, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    const ShardNumber shard = shard_number(name, stem);
    if (shard.number == 0 || shard.total == 0) continue;
    if (total == 0) total = shard.total;
    if (shard.total != total || !shards.emplace(shard.number, name).second) {
      throw Error(ExitCode::kData, join_path(directory, name),
                  "belongs to another set of shards than " + printable(shards.begin()->second) + ", and no " +
                      index + " says which one counts",
                  "remove one set, or fetch " + index);
    }
  }
  if (shards.empty()) return false;
  int64_t missing = 1;  // the first one, if any is
  while (shards.count(missing) != 0) ++missing;
  if (missing <= total || std::ssize(shards) != total) {
    throw Error(
        ExitCode::kNoInput, directory,
        fmt::format("shard {} of {} of {}.safetensors is missing, and so is {}", missing, total, stem, index),
        "fetch the rest of the checkpoint");
  }
  for (const auto& [number, name] : shards) add_file(join_path(directory, name));
  note_ = fmt::format("{} is missing: all {} shards are read without it, which transformers does not", index,
                      total);
  return true;
}

}  // namespace eep
