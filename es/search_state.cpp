// Checkpoints of a search.
#include "es/search_state.h"

#include <xxhash.h>

#include <algorithm>

#include "es/algorithms.h"
#include "es/bytes.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

constexpr std::string_view kMagic = "eep-search\n";
constexpr uint32_t kVersion = 3;
constexpr size_t kSum = sizeof(uint64_t);
constexpr size_t kHead = kMagic.size() + sizeof(uint32_t) + sizeof(uint64_t) + kSum;
constexpr size_t kBlockHead = 2 * sizeof(uint64_t);
constexpr size_t kMaxOrigin = 0xffff;
constexpr uint8_t kCached = 1, kDropped = 2;

void put_text(std::string_view text, std::string& out) {
  const size_t length = std::min(text.size(), kMaxOrigin);
  put(static_cast<uint16_t>(length), out);
  out.append(text.substr(0, length));
}

// Numbers, whole numbers, choices: the order of the first version, whatever that of the file is.
class Fingerprint final : public ParameterVisitor {
 public:
  void number(const char*, double& value, double, double) override { put(value, numbers_); }
  void integer(const char*, int32_t& value, int32_t, int32_t) override { put(value, integers_); }
  // One that is off is as one that there was not yet: checkpoints from before go on.
  void flag(const char* name, bool& value) override {
    if (value) put_text(name, choices_);
  }
  void choice(const char*, uint8_t& value, std::span<const std::string_view>) override {
    put(value, choices_);
  }
  void constant(const char*, double& value, double, double) override { put(value, numbers_); }

  std::string bytes() const { return numbers_ + integers_ + choices_; }

 private:
  std::string numbers_, integers_, choices_;
};

// By value: a visitor may write.
void put_phase(PhaseConfig config, Phase phase, std::string& out) {
  put_text(config.algorithm, out);
  put(config.evaluations, out);
  Fingerprint parameters;
  visit(parameters, config.parameters);
  out += parameters.bytes();
  const AlgorithmRow& row = find_algorithm(config, phase);
  Fingerprint own;
  config.own.at(static_cast<size_t>(&row - algorithms().data())).walk(own);
  out += own.bytes();
}

[[noreturn]] void damaged(const char* where, const std::string& what) {
  throw Error(ExitCode::kData, where, "damaged checkpoint: " + what);
}

void put_sum(std::string& out) { put(static_cast<uint64_t>(XXH3_64bits(out.data(), out.size())), out); }

// The last eight bytes are the sum of the others.
void check_sum(std::string_view bytes, const char* where) {
  std::string_view tail = bytes.substr(bytes.size() - kSum);
  if (take<uint64_t>(tail, where) != XXH3_64bits(bytes.data(), bytes.size() - kSum))
    damaged(where, "its checksum is wrong");
}

void put_decisions(const Decisions& decisions, std::string& out) {
  put(static_cast<uint32_t>(decisions.item_end.size()), out);
  for (size_t item = 0; item < decisions.item_end.size(); ++item) {
    put(decisions.item_end[item], out);
    put(decisions.right[item], out);
  }
  for (const float value : decisions.values) put(value, out);
}

Decisions take_decisions(std::string_view& bytes, const char* where) {
  Decisions decisions;
  const auto items = take<uint32_t>(bytes, where);
  int32_t end = 0;
  for (uint32_t item = 0; item < items; ++item) {
    const auto next = take<int32_t>(bytes, where);
    const auto right = take<int32_t>(bytes, where);
    if (next <= end || right < -1 || right >= next - end) damaged(where, "decisions of no item");
    decisions.item_end.push_back(next);
    decisions.right.push_back(right);
    end = next;
  }
  if (static_cast<size_t>(end) * sizeof(float) > bytes.size()) damaged(where, "too few decisions");
  for (int32_t i = 0; i < end; ++i) decisions.values.push_back(take<float>(bytes, where));
  return decisions;
}

void put_entry(const GenomeSpace& space, const ArchiveEntry& entry, std::string& out) {
  put(static_cast<uint8_t>(entry.phase), out);
  put(entry.generation, out);
  put_text(entry.origin, out);
  write_genome(space, entry.genome, out);
  put(entry.result.fitness, out);
  put(entry.result.tiebreak, out);
  put(entry.result.n, out);
  put(static_cast<uint8_t>((entry.cached ? kCached : 0) | (entry.dropped ? kDropped : 0)), out);
  put(entry.shard, out);
  put_decisions(entry.result.decisions, out);
}

// shards: with what the first version did not have.
ArchiveEntry take_entry(const GenomeSpace& space, bool shards, std::string_view& bytes, const char* where) {
  ArchiveEntry entry;
  const auto phase = take<uint8_t>(bytes, where);
  if (phase > 1) damaged(where, "unknown phase " + std::to_string(phase));
  entry.phase = static_cast<Phase>(phase);
  entry.generation = take<uint32_t>(bytes, where);
  entry.origin = std::string(take_bytes(bytes, take<uint16_t>(bytes, where), where));
  entry.genome = read_genome(space, bytes, where);
  entry.hash = canonical_hash(entry.genome, space.experts);
  entry.result.fitness = take<double>(bytes, where);
  entry.result.tiebreak = take<double>(bytes, where);
  entry.result.n = take<int32_t>(bytes, where);
  const auto flags = take<uint8_t>(bytes, where);
  entry.cached = (flags & kCached) != 0;
  entry.dropped = (flags & kDropped) != 0;
  if (!shards) return entry;
  entry.shard = take<int64_t>(bytes, where);
  entry.result.decisions = take_decisions(bytes, where);
  return entry;
}

}  // namespace

uint64_t search_fingerprint(const GenomeSpace& space, const SearchConfig& config,
                            const std::vector<WarmStart>& starts) {
  std::string bytes;
  put(config.seed, bytes);
  put(config.population, bytes);
  put(static_cast<uint8_t>(config.fitness), bytes);
  put_phase(config.prune, Phase::kPrune, bytes);
  put_phase(config.merge, Phase::kMerge, bytes);
  put(space.experts, bytes);
  put(space.top_k, bytes);
  put(static_cast<uint8_t>(space.router_space), bytes);
  put(space.groups(), bytes);
  for (size_t group = 0; group < space.kept.size(); ++group) {
    put(space.kept[group], bytes);
    put(static_cast<uint32_t>(space.layers[group].size()), bytes);
    for (const int32_t layer : space.layers[group]) put(layer, bytes);
  }
  if (config.shards.shard > 0) {
    for (const int64_t value : {config.shards.items, config.shards.shard, config.shards.fixed})
      put(value, bytes);
  }
  if (space.counts_vary()) {
    put(space.total, bytes);
    put(space.least, bytes);
    put(space.most, bytes);
  }
  if (space.top_k_varies()) put(space.top_k_least, bytes);
  if (config.objectives.several()) {
    put(static_cast<uint8_t>(config.objectives.parameters), bytes);
    put(static_cast<uint8_t>(config.objectives.active), bytes);
  }
  if (config.racing.on) {
    put(config.racing.first, bytes);
    put(config.racing.errors, bytes);
    put(config.racing.keep, bytes);
  }
  for (const WarmStart& start : starts) {
    put_text(start.name, bytes);
    write_genome(space, start.genome, bytes);
  }
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string write_generation(const GenomeSpace& space, const Archive& archive, int64_t begin, int64_t end) {
  std::string entries;
  for (int64_t i = begin; i < end; ++i) put_entry(space, archive[i], entries);
  std::string block;
  block.reserve(entries.size() + kBlockHead + kSum);
  put(static_cast<uint64_t>(entries.size()), block);
  put(static_cast<uint64_t>(begin), block);
  block += entries;
  put_sum(block);
  return block;
}

std::string write_search_state(const GenomeSpace& space, uint64_t fingerprint, const Archive& archive) {
  std::string out(kMagic);
  put(kVersion, out);
  put(fingerprint, out);
  put_sum(out);
  for (int64_t begin = 0, end = 0; begin < archive.size(); begin = end) {
    while (end < archive.size() && archive[end].generation == archive[begin].generation) ++end;
    out += write_generation(space, archive, begin, end);
  }
  return out;
}

std::string_view whole_generations(std::string_view state) {
  if (state.size() < kHead || state.substr(0, kMagic.size()) != kMagic) return state;
  std::string_view number = state.substr(kMagic.size());
  if (take<uint32_t>(number, "checkpoint") != kVersion) return state;
  size_t end = kHead;
  while (state.size() - end >= kBlockHead + kSum) {
    std::string_view rest = state.substr(end);
    const auto bytes = take<uint64_t>(rest, "checkpoint");
    if (bytes > state.size() - end - kBlockHead - kSum) break;
    end += kBlockHead + bytes + kSum;
  }
  return state.substr(0, end);
}

std::vector<ArchiveEntry> read_search_state(const GenomeSpace& space, uint64_t fingerprint,
                                            std::string_view state, const char* where) {
  if (state.size() < kHead || state.substr(0, kMagic.size()) != kMagic)
    damaged(where, "it does not begin as one");
  std::string_view bytes = state.substr(kMagic.size());
  const auto version = take<uint32_t>(bytes, where);
  if (version < 1 || version > kVersion) {
    throw Error(
        ExitCode::kData, where,
        "unknown version of the checkpoint" + expected_got("1.." + std::to_string(kVersion), version));
  }
  if (version < kVersion) check_sum(state, where);
  if (version == kVersion) check_sum(state.substr(0, kHead), where);
  if (take<uint64_t>(bytes, where) != fingerprint) {
    throw Error(ExitCode::kConfig, where, "the checkpoint belongs to another search",
                "resume with the configuration, plan and baselines that it was started with");
  }
  std::vector<ArchiveEntry> entries;
  if (version < kVersion) {
    bytes.remove_suffix(kSum);
    const auto count = take<uint64_t>(bytes, where);
    for (uint64_t i = 0; i < count; ++i) entries.push_back(take_entry(space, version > 1, bytes, where));
    if (!bytes.empty()) damaged(where, std::to_string(bytes.size()) + " bytes too many");
    return entries;
  }
  take<uint64_t>(bytes, where);  // the head's sum
  while (!bytes.empty()) {
    std::string_view block = bytes;
    const auto size = take<uint64_t>(bytes, where);
    const auto first = take<uint64_t>(bytes, where);
    if (bytes.size() < kSum || size > bytes.size() - kSum) damaged(where, "a generation that was cut off");
    block = block.substr(0, kBlockHead + size + kSum);
    check_sum(block, where);
    if (first != entries.size()) damaged(where, "generations out of order");
    std::string_view inside = bytes.substr(0, size);
    while (!inside.empty()) entries.push_back(take_entry(space, /*shards=*/true, inside, where));
    bytes.remove_prefix(size + kSum);
  }
  return entries;
}

}  // namespace eep
