// search_state: a search between generations as bytes: a fingerprint of what it belongs to, and the archive,
// a block a generation. A generation appends its block, so a checkpoint costs what the generation holds, not
// what the search does.
//
//   "eep-search\n"  u32 version  u64 fingerprint  u64 XXH3-64 of all before
//   a generation: u64 bytes of its entries  u64 its first evaluation  entries  u64 XXH3-64 of all before
//   an entry: u8 phase  u32 generation  u16 length, origin  genome (genome_io)
//             f64 fitness  f64 tiebreak  i32 n  u8 cached
//             i64 shard  u32 items  items x { i32 end  i32 right }  f32 log-probabilities
// Little-endian. Versions 1 and 2, which are read too, have a count and all entries in one block; entries of
// version 1 end with `cached`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "es/search.h"

namespace eep {

// XXH3-64 of everything that decides which genomes a search asks for.
uint64_t search_fingerprint(const GenomeSpace& space, const SearchConfig& config,
                            const std::vector<WarmStart>& starts);

std::string write_search_state(const GenomeSpace& space, uint64_t fingerprint, const Archive& archive);
// The block of evaluations [begin, end), one generation.
std::string write_generation(const GenomeSpace& space, const Archive& archive, int64_t begin, int64_t end);

// The front of the bytes that ends with a whole block: what was appended last may have been cut off.
std::string_view whole_generations(std::string_view state);

// Throws Error(kData) on damage, Error(kConfig) on another fingerprint, naming `where`.
std::vector<ArchiveEntry> read_search_state(const GenomeSpace& space, uint64_t fingerprint,
                                            std::string_view state, const char* where);

}  // namespace eep
