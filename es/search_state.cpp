// Checkpoints of a search.
#include "es/search_state.h"

#include <xxhash.h>

#include <algorithm>

#include "es/algorithms.h"
#include "es/bytes.h"
#include "kernels/common/error.h"

namespace eep {
namespace {

constexpr std::string_view kMagic = "eep-search\n";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kVersionShards = 2;  // with items and decisions an entry
constexpr size_t kMaxOrigin = 0xffff;

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
  void flag(const char*, bool& value) override { put(static_cast<uint8_t>(value), choices_); }
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

bool has_more(const ArchiveEntry& entry) { return entry.shard >= 0 || !entry.result.decisions.empty(); }

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
  for (const WarmStart& start : starts) {
    put_text(start.name, bytes);
    write_genome(start.genome, space.experts, bytes);
  }
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string write_search_state(const GenomeSpace& space, uint64_t fingerprint, const Archive& archive) {
  std::string out(kMagic);
  const bool shards = std::any_of(archive.entries().begin(), archive.entries().end(), has_more);
  put(shards ? kVersionShards : kVersion, out);
  put(fingerprint, out);
  put(static_cast<uint64_t>(archive.size()), out);
  for (const ArchiveEntry& entry : archive.entries()) {
    put(static_cast<uint8_t>(entry.phase), out);
    put(entry.generation, out);
    put_text(entry.origin, out);
    write_genome(entry.genome, space.experts, out);
    put(entry.result.fitness, out);
    put(entry.result.tiebreak, out);
    put(entry.result.n, out);
    put(static_cast<uint8_t>(entry.cached), out);
    if (!shards) continue;
    put(entry.shard, out);
    put_decisions(entry.result.decisions, out);
  }
  put(static_cast<uint64_t>(XXH3_64bits(out.data(), out.size())), out);
  return out;
}

std::vector<ArchiveEntry> read_search_state(const GenomeSpace& space, uint64_t fingerprint,
                                            std::string_view state, const char* where) {
  constexpr size_t kSum = sizeof(uint64_t);
  if (state.size() < kMagic.size() + kSum || state.substr(0, kMagic.size()) != kMagic) {
    damaged(where, "it does not begin as one");
  }
  std::string_view tail = state.substr(state.size() - kSum);
  std::string_view bytes = state.substr(0, state.size() - kSum);
  if (take<uint64_t>(tail, where) != XXH3_64bits(bytes.data(), bytes.size())) {
    damaged(where, "its checksum is wrong");
  }
  bytes.remove_prefix(kMagic.size());
  const auto version = take<uint32_t>(bytes, where);
  if (version != kVersion && version != kVersionShards) {
    throw Error(ExitCode::kData, where,
                "unknown version of the checkpoint (expected " + std::to_string(kVersion) + " or " +
                    std::to_string(kVersionShards) + ", got " + std::to_string(version) + ")");
  }
  if (take<uint64_t>(bytes, where) != fingerprint) {
    throw Error(ExitCode::kConfig, where, "the checkpoint belongs to another search",
                "resume with the configuration, plan and baselines that it was started with");
  }
  const auto count = take<uint64_t>(bytes, where);
  std::vector<ArchiveEntry> entries;
  for (uint64_t i = 0; i < count; ++i) {
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
    entry.cached = take<uint8_t>(bytes, where) != 0;
    if (version == kVersionShards) {
      entry.shard = take<int64_t>(bytes, where);
      entry.result.decisions = take_decisions(bytes, where);
    }
    entries.push_back(std::move(entry));
  }
  if (!bytes.empty()) damaged(where, std::to_string(bytes.size()) + " bytes too many");
  return entries;
}

}  // namespace eep
