#include "loaders/text/token_table.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace eep {

namespace {

uint32_t hash_of(std::string_view key) { return static_cast<uint32_t>(XXH3_64bits(key.data(), key.size())); }

}  // namespace

// The slot of the key, or the free one where it belongs.
size_t TokenTable::place(std::string_view key, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  for (size_t i = hash & mask;; i = (i + 1) & mask) {
    const Slot& slot = slots_[i];
    if (slot.id < 0) return i;
    if (slot.hash == hash && std::string_view(arena_).substr(slot.offset, slot.length) == key) return i;
  }
}

int32_t TokenTable::find(std::string_view key) const { return slots_[place(key, hash_of(key))].id; }

bool TokenTable::insert(std::string_view key, int32_t id) {
  if (2 * (count_ + 1) > slots_.size()) grow();
  const uint32_t hash = hash_of(key);
  Slot& slot = slots_[place(key, hash)];
  if (slot.id >= 0) return false;
  slot = {id, hash, static_cast<uint32_t>(arena_.size()), static_cast<uint32_t>(key.size())};
  arena_.append(key);
  ++count_;
  return true;
}

void TokenTable::grow() {
  std::vector<Slot> old(2 * slots_.size());
  old.swap(slots_);
  for (const Slot& slot : old) {
    if (slot.id >= 0)
      slots_[place(std::string_view(arena_).substr(slot.offset, slot.length), slot.hash)] = slot;
  }
}

}  // namespace eep
