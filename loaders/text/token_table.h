// TokenTable: strings to token ids. Open addressing over one arena: a look-up touches one slot and one
// string.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace eep {

class TokenTable {
 public:
  TokenTable() : slots_(16) {}

  bool insert(std::string_view key, int32_t id);  // false, and nothing changes, if the key is there
  int32_t find(std::string_view key) const;       // -1: absent
  size_t size() const { return count_; }

 private:
  struct Slot {
    int32_t id = -1;  // -1: free
    uint32_t hash = 0;
    uint32_t offset = 0, length = 0;  // in arena_
  };

  size_t place(std::string_view key, uint32_t hash) const;
  void grow();

  std::vector<Slot> slots_;  // a power of two of them
  std::string arena_;
  size_t count_ = 0;
};

}  // namespace eep
