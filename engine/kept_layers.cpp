#include "engine/kept_layers.h"

#include <xxhash.h>

#include <algorithm>
#include <set>
#include <string>

namespace eep {
namespace {

class Bytes {
 public:
  template <typename T>
  void add(const T& value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  template <typename T>
  void add_list(const std::vector<T>& values) {
    add(values.size());
    bytes_.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  }
  RowsHash hash() const {
    const XXH128_hash_t hash = XXH3_128bits(bytes_.data(), bytes_.size());
    return {hash.high64, hash.low64};
  }

 private:
  std::string bytes_;
};

// What the n-th layer of this group computes (LayerVariants tells variants apart by the same).
RowsHash setting_hash(const ExpertPlan& plan, const PlanGroup& group, size_t layer) {
  Bytes bytes;
  bytes.add(group.kept);
  bytes.add(std::min(plan.top_k, group.kept));
  bytes.add(plan.router_space);
  bytes.add_list(group.router_mapping);
  bytes.add_list(group.expert_merging);
  bytes.add(skip_below_of(group, layer));
  return bytes.hash();
}

RowsHash then(const RowsHash& before, const RowsHash& setting) {
  Bytes bytes;
  bytes.add(before);
  bytes.add(setting);
  return bytes.hash();
}

}  // namespace

RowsHash hash_of(const PromptChunk& chunk) {
  Bytes bytes;
  bytes.add_list(chunk.tokens);
  bytes.add_list(chunk.positions);
  bytes.add_list(chunk.all.runs);
  bytes.add_list(chunk.all.spans);
  return bytes.hash();
}

PlanPrefixes::PlanPrefixes(const std::vector<uint8_t>& sparse, std::span<const ExpertPlan> plans)
    : hashes_(sparse.size(), std::vector<RowsHash>(plans.size())),
      parts_(sparse.size(), std::vector<uint8_t>(plans.size())) {
  std::vector<const PlanGroup*> owner(sparse.size());
  std::vector<RowsHash> setting(sparse.size());
  for (size_t candidate = 0; candidate < plans.size(); ++candidate) {
    for (const PlanGroup& group : plans[candidate].groups) {
      RowsHash hash;
      for (size_t n = 0; n < group.layers.size(); ++n) {
        // layers differ by what they skip alone
        if (n == 0 || !group.skip_below.empty()) hash = setting_hash(plans[candidate], group, n);
        owner[static_cast<size_t>(group.layers[n])] = &group;
        setting[static_cast<size_t>(group.layers[n])] = hash;
      }
    }
    RowsHash prefix;
    const PlanGroup* group = nullptr;  // of the last sparse layer
    for (size_t layer = 0; layer < sparse.size(); ++layer) {
      if (sparse[layer] != 0) {
        prefix = then(prefix, setting[layer]);
        group = owner[layer];
      } else {
        prefix = then(prefix, {});
      }
      hashes_[layer][candidate] = prefix;
      const bool next_sparse = layer + 1 < sparse.size() && sparse[layer + 1] != 0;
      parts_[layer][candidate] = next_sparse && owner[layer + 1] != group;
    }
  }
}

int64_t PlanPrefixes::distinct(int64_t layer, std::span<const size_t> candidates) const {
  std::set<RowsHash> seen;
  for (const size_t candidate : candidates) seen.insert(hash(layer, candidate));
  return static_cast<int64_t>(seen.size());
}

void KeptLayers::begin_pass(size_t bytes) {
  ++pass_;
  limit_ = bytes;
  make_room(0);
}

KeptLayers::Rows KeptLayers::find(const Key& key) {
  const auto found = entries_.find(key);
  if (found == entries_.end()) return nullptr;
  Entry& entry = found->second;
  by_value_.erase({{entry.pass, entry.layer}, key});
  entry.pass = pass_;
  by_value_[{{entry.pass, entry.layer}, key}] = found;
  return entry.rows;
}

std::shared_ptr<DeviceBuffer> KeptLayers::make_room(size_t bytes) {
  std::shared_ptr<DeviceBuffer> last;
  while (bytes_ + bytes > limit_ && !by_value_.empty()) {
    const auto least = by_value_.begin();
    last = std::move(least->second->second.rows);
    bytes_ -= last->bytes();
    entries_.erase(least->second);
    by_value_.erase(least);
  }
  return last != nullptr && last.use_count() == 1 && last->bytes() == bytes ? last : nullptr;
}

void KeptLayers::keep(const Key& key, int64_t layer, const float* rows, size_t bytes) {
  if (bytes > limit_ || entries_.count(key) != 0) return;
  std::shared_ptr<DeviceBuffer> room = make_room(bytes);
  if (room == nullptr) room = std::make_shared<DeviceBuffer>(backend_, bytes);
  backend_.ops->copy(room->data(), rows, bytes, backend_.device);
  bytes_ += bytes;
  const auto entry = entries_.emplace(key, Entry{std::move(room), pass_, layer}).first;
  by_value_[{{pass_, layer}, key}] = entry;
}

}  // namespace eep
