// shards: the stream of fresh items. Epoch after epoch every item of the train split stands in it once, in an
// addressed permutation; a generation is scored on the next `count` of them. Fitness on other items every
// time: what fits one sample of them alone does not last.
#pragma once

#include <cstdint>
#include <vector>

namespace eep {

constexpr int64_t kMaxShardItems = int64_t{1} << 24;  // places in a permutation have an address

// items: of the train split. shard: of a generation, as a rule; 0: no stream, every evaluation sees the same
// items. fixed: the first so many items, on which algorithms compare candidates of different generations.
struct ShardConfig {
  int64_t items = 0;
  int64_t shard = 0;
  int64_t fixed = 0;

  bool operator==(const ShardConfig&) const = default;
};

// Throws Error(kConfig): a shard larger than the items, items outside 1..2^24.
void check_shards(const ShardConfig& config);

// Where a shard of `count` begins that is to begin at `at` or behind it: in one epoch, so that it has no item
// twice.
int64_t shard_begin(const ShardConfig& config, int64_t at, int64_t count);
// The items of [begin, begin + count), which lie in one epoch.
std::vector<int32_t> shard_items(const ShardConfig& config, uint64_t seed, int64_t begin, int64_t count);

}  // namespace eep
