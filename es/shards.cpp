#include "es/shards.h"

#include <numeric>
#include <string>
#include <utility>

#include "es/random.h"
#include "kernels/common/error.h"
#include "kernels/common/expected.h"

namespace eep {

void check_shards(const ShardConfig& config) {
  if (config.shard == 0) return;
  const auto fail = [](const char* name, int64_t largest, int64_t got) {
    throw Error(ExitCode::kConfig, name,
                "value out of range" + expected_got("1.." + std::to_string(largest), got));
  };
  if (config.items < 1 || config.items > kMaxShardItems)
    fail("task.train.limit", kMaxShardItems, config.items);
  if (config.shard < 1 || config.shard > config.items) fail("task.train.shard", config.items, config.shard);
}

int64_t shard_begin(const ShardConfig& config, int64_t at, int64_t count) {
  const int64_t left = config.items - at % config.items;
  return count <= left ? at : at + left;
}

std::vector<int32_t> shard_items(const ShardConfig& config, uint64_t seed, int64_t begin, int64_t count) {
  const auto epoch = static_cast<uint32_t>(begin / config.items);
  const auto first = static_cast<size_t>(begin % config.items);
  const size_t last = first + static_cast<size_t>(count);
  // Fisher and Yates, as far as it is needed.
  std::vector<int32_t> order(static_cast<size_t>(config.items));
  std::iota(order.begin(), order.end(), 0);
  for (size_t i = 0; i < last; ++i) {
    const Address address{seed, Purpose::kShard, epoch, 0, 0, static_cast<uint32_t>(i), 0};
    std::swap(order[i], order[i + random_below(address, order.size() - i)]);
  }
  return {order.begin() + static_cast<ptrdiff_t>(first), order.begin() + static_cast<ptrdiff_t>(last)};
}

}  // namespace eep
