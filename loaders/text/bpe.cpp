#include "loaders/text/bpe.h"

#include <algorithm>
#include <queue>

#include "kernels/common/error.h"
#include "loaders/formats/json.h"
#include "loaders/formats/unicode.h"

namespace eep {

namespace {

constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581, SentencePiece's space
constexpr size_t kMaxWhole = 24;                     // bytes of a piece that is looked up whole
constexpr size_t kMaxScan = 40;                      // symbols above which the heap is faster

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t slot_of(uint64_t pair, size_t size) {
  pair *= 0x9e3779b97f4a7c15u;
  return static_cast<size_t>(pair ^ pair >> 32) & (size - 1);
}

}  // namespace

Bpe::Bpe(const BpeOptions& options) : options_(options), merges_(16) {
  byte_tokens_.fill(-1);
  ascii_tokens_.fill(-1);
}

bool Bpe::add_token(std::string_view key, int32_t id) {
  if (!tokens_.insert(key, id)) return false;
  if (key.size() == 1) {
    const auto byte = static_cast<unsigned char>(key[0]);
    if (options_.byte_level) {
      byte_tokens_[byte] = id;
    } else if (byte < 128) {
      ascii_tokens_[byte] = id;
    }
  }
  return true;
}

void Bpe::add_byte_token(uint8_t byte, int32_t id) { byte_tokens_[byte] = id; }

void Bpe::add_merge(int32_t left, int32_t right, int32_t result, int32_t rank) {
  const auto place = [&](uint64_t pair) -> Merge& {
    size_t i = slot_of(pair, merges_.size());
    while (merges_[i].pair != kNoPair && merges_[i].pair != pair) i = (i + 1) & (merges_.size() - 1);
    return merges_[i];
  };
  if (3 * (merge_count_ + 1) > 2 * merges_.size()) {
    std::vector<Merge> old(2 * merges_.size());
    old.swap(merges_);
    for (const Merge& merge : old) {
      if (merge.pair != kNoPair) place(merge.pair) = merge;
    }
  }
  Merge& merge = place(pair_of(left, right));
  if (merge.pair == kNoPair) ++merge_count_;
  merge = {pair_of(left, right), rank, result};
}

const Bpe::Merge* Bpe::find_merge(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  for (size_t i = slot_of(pair, merges_.size());; i = (i + 1) & (merges_.size() - 1)) {
    if (merges_[i].pair == pair) return &merges_[i];
    if (merges_[i].pair == kNoPair) return nullptr;
  }
}

void Bpe::finish(const std::vector<std::string>& keys) {
  whole_.assign(keys.size(), 0);
  std::vector<int32_t> ids;
  const int32_t unknown = options_.unknown_id;
  if (unknown == kUnknownMissing) options_.unknown_id = -1;  // no token is looked up by what it lacks
  for (size_t id = 0; id < keys.size(); ++id) {
    if (keys[id].empty() || keys[id].size() > kMaxWhole || find(keys[id]) != static_cast<int32_t>(id))
      continue;
    ids.clear();
    encode_by_merges(keys[id], ids);
    whole_[id] = ids.size() == 1 && ids[0] == static_cast<int32_t>(id);
  }
  options_.unknown_id = unknown;

  // A cut before a run of spaces is safe if no merge makes a token that holds one after something else.
  cut_at_spaces_ = !options_.byte_level && !options_.ignore_merges && find(kSpace) >= 0;
  for (const Merge& merge : merges_) {
    if (!cut_at_spaces_) break;
    if (merge.pair == kNoPair) continue;
    const std::string_view key = keys[static_cast<size_t>(merge.result)];
    size_t spaces = 0;
    while (key.substr(spaces, kSpace.size()) == kSpace) spaces += kSpace.size();
    cut_at_spaces_ = key.find(kSpace, spaces) == std::string_view::npos;
  }
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids) const {
  while (!piece.empty()) {
    std::string_view part = piece;
    if (cut_at_spaces_) {
      size_t end = 0;
      while (piece.substr(end, kSpace.size()) == kSpace) end += kSpace.size();
      part = piece.substr(0, piece.find(kSpace, end));
    }
    piece.remove_prefix(part.size());
    if (part.size() <= kMaxWhole || options_.ignore_merges) {
      const int32_t id = tokens_.find(part);
      if (id >= 0 && (options_.ignore_merges || whole_[static_cast<size_t>(id)] != 0)) {
        ids.push_back(id);
        continue;
      }
    }
    encode_by_merges(part, ids);
  }
}

void Bpe::encode_by_merges(std::string_view piece, std::vector<int32_t>& ids) const {
  const size_t begin = ids.size();
  append_symbols(piece, ids);
  const size_t count = ids.size() - begin;
  int32_t* symbols = ids.data() + begin;
  ids.resize(begin + (count <= kMaxScan ? merge_by_scan(symbols, count) : merge_by_heap(symbols, count)));
}

void Bpe::append_symbols(std::string_view piece, std::vector<int32_t>& symbols) const {
  bool unknown = false;  // an unknown token waits: it may grow
  const auto known = [&](int32_t id) {
    if (unknown) symbols.push_back(options_.unknown_id);
    unknown = false;
    symbols.push_back(id);
  };
  for (size_t at = 0; at < piece.size();) {
    const auto byte = static_cast<unsigned char>(piece[at]);
    size_t length = 1;
    int32_t id = -1;
    if (options_.byte_level) {
      id = byte_tokens_[byte];
    } else if (byte < 128) {
      id = ascii_tokens_[byte];
    } else {
      length = decode_utf8_slow(piece, at).bytes;
      id = tokens_.find(piece.substr(at, length));
    }
    const std::string_view symbol = piece.substr(at, length);
    at += length;
    if (id >= 0) {
      known(id);
      continue;
    }
    const auto has_token = [&](char c) { return byte_tokens_[static_cast<unsigned char>(c)] >= 0; };
    if (options_.byte_fallback && std::all_of(symbol.begin(), symbol.end(), has_token)) {
      // As in Hugging Face's code an unknown token that waits comes after these.
      for (char c : symbol) symbols.push_back(byte_tokens_[static_cast<unsigned char>(c)]);
    } else if (options_.unknown_id >= 0) {
      if (unknown && !options_.fuse_unknown) symbols.push_back(options_.unknown_id);
      unknown = true;
    } else if (options_.unknown_id == kUnknownMissing) {
      throw Error(ExitCode::kData, "text",
                  "the vocabulary has neither this character nor the unknown token that the tokenizer names "
                  "(got \"" +
                      printable(symbol) + "\")");
    }
  }
  if (unknown) symbols.push_back(options_.unknown_id);
}

size_t Bpe::merge_by_scan(int32_t* symbols, size_t count) const {
  constexpr int32_t kNone = INT32_MAX;
  std::array<int32_t, kMaxScan> ranks;    // of the pair (i, i + 1)
  std::array<int32_t, kMaxScan> results;  // of the pair (i, i + 1)
  const auto rate = [&](size_t i) {
    const Merge* merge = i + 1 < count ? find_merge(symbols[i], symbols[i + 1]) : nullptr;
    ranks[i] = merge == nullptr ? kNone : merge->rank;
    results[i] = merge == nullptr ? -1 : merge->result;
  };
  for (size_t i = 0; i < count; ++i) rate(i);
  while (count > 1) {
    const size_t best = static_cast<size_t>(
        std::min_element(ranks.begin(), ranks.begin() + static_cast<ptrdiff_t>(count)) - ranks.begin());
    if (ranks[best] == kNone) break;
    symbols[best] = results[best];
    --count;
    for (size_t i = best + 1; i < count; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
      results[i] = results[i + 1];
    }
    rate(best);
    if (best > 0) rate(best - 1);
  }
  return count;
}

size_t Bpe::merge_by_heap(int32_t* symbols, size_t symbol_count) const {
  struct Candidate {
    int32_t rank, position, left, right, result;
    bool operator<(const Candidate& other) const {  // the heap's top is its largest
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };
  const auto count = static_cast<int32_t>(symbol_count);
  std::vector<int32_t> previous(symbol_count), next(symbol_count);
  std::priority_queue<Candidate> heap;
  const auto offer = [&](int32_t position) {
    if (position < 0 || next[static_cast<size_t>(position)] == count) return;
    const int32_t left = symbols[static_cast<size_t>(position)];
    const int32_t right = symbols[static_cast<size_t>(next[static_cast<size_t>(position)])];
    const Merge* merge = find_merge(left, right);
    if (merge != nullptr) heap.push({merge->rank, position, left, right, merge->result});
  };
  for (int32_t i = 0; i < count; ++i) {
    previous[static_cast<size_t>(i)] = i - 1;
    next[static_cast<size_t>(i)] = i + 1;
  }
  for (int32_t i = 0; i < count; ++i) offer(i);
  while (!heap.empty()) {
    const Candidate top = heap.top();
    heap.pop();
    const auto left = static_cast<size_t>(top.position);
    if (symbols[left] != top.left || next[left] == count) continue;  // stale
    const auto right = static_cast<size_t>(next[left]);
    if (symbols[right] != top.right) continue;
    symbols[left] = top.result;
    symbols[right] = -1;
    next[left] = next[right];
    if (next[left] != count) previous[static_cast<size_t>(next[left])] = top.position;
    offer(previous[left]);
    offer(top.position);
  }
  return static_cast<size_t>(std::remove(symbols, symbols + count, -1) - symbols);
}

}  // namespace eep
