// Checkpoints of a search.
#include "es/search_state.h"

#include <xxhash.h>

#include <algorithm>

#include "es/algorithms.h"
#include "es/bytes.h"
#include "kernels/error.h"

namespace eep {
namespace {

constexpr std::string_view kMagic = "eep-search\n";
constexpr uint32_t kVersion = 1;
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
  for (const WarmStart& start : starts) {
    put_text(start.name, bytes);
    write_genome(start.genome, space.experts, bytes);
  }
  return XXH3_64bits(bytes.data(), bytes.size());
}

std::string write_search_state(const GenomeSpace& space, uint64_t fingerprint, const Archive& archive) {
  std::string out(kMagic);
  put(kVersion, out);
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
  if (version != kVersion) {
    throw Error(ExitCode::kData, where,
                "unknown version of the checkpoint (expected " + std::to_string(kVersion) + ", got " +
                    std::to_string(version) + ")");
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
    entries.push_back(std::move(entry));
  }
  if (!bytes.empty()) damaged(where, std::to_string(bytes.size()) + " bytes too many");
  return entries;
}

}  // namespace eep
