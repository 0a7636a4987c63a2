// Byte-pair encoding of one piece of text: symbols are bytes or characters; again and again the adjacent pair
// of lowest rank (of equal ranks the leftmost) becomes one symbol. Short pieces are scanned, long ones use a
// heap: n symbols take O(n log n).
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "loaders/text/token_table.h"

namespace eep {

inline constexpr int32_t kUnknownMissing = -2;

struct BpeOptions {
  bool byte_level = false;     // symbols are bytes and keys are byte strings; else characters
  bool byte_fallback = false;  // an unknown character becomes its UTF-8 bytes as tokens <0xHH>
  bool fuse_unknown = false;   // consecutive unknown symbols give one unknown token
  bool ignore_merges = false;  // a piece that is a token is that token
  int32_t unknown_id = -1;     // -1: unknown symbols are dropped; kUnknownMissing: they are an error
};

class Bpe {
 public:
  Bpe() = default;
  explicit Bpe(const BpeOptions& options);

  bool add_token(std::string_view key, int32_t id);  // false: another token has this key
  void add_byte_token(uint8_t byte, int32_t id);     // the fallback token of a byte
  void add_merge(int32_t left, int32_t right, int32_t result,
                 int32_t rank);  // the last of equal pairs counts

  // After the last token and merge: finds the pieces that may be looked up whole and the places where a text
  // may be cut without changing its encoding.
  void finish(const std::vector<std::string>& keys);  // of every token by id; "" for none

  // Throws Error(kData) for an unknown symbol where the unknown token is missing.
  void encode(std::string_view piece, std::vector<int32_t>& ids) const;
  // By the merges alone, without short cuts.
  void encode_by_merges(std::string_view piece, std::vector<int32_t>& ids) const;

  int32_t find(std::string_view key) const { return tokens_.find(key); }
  size_t merge_count() const { return merge_count_; }

 private:
  struct Merge {
    uint64_t pair = kNoPair;  // left << 32 | right
    int32_t rank = 0, result = 0;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};

  const Merge* find_merge(int32_t left, int32_t right) const;
  void append_symbols(std::string_view piece, std::vector<int32_t>& symbols) const;
  size_t merge_by_scan(int32_t* symbols, size_t count) const;  // in place, returns the new count
  size_t merge_by_heap(int32_t* symbols, size_t count) const;

  BpeOptions options_;
  TokenTable tokens_;
  std::array<int32_t, 256> byte_tokens_{};   // byte_level: the symbol of a byte; else its fallback token
  std::array<int32_t, 128> ascii_tokens_{};  // characters
  std::vector<Merge> merges_;                // open addressing, a power of two
  size_t merge_count_ = 0;
  std::vector<uint8_t> whole_;  // [ids] the merges make this token of its own text
  bool cut_at_spaces_ = false;  // before a run of U+2581
};

}  // namespace eep
