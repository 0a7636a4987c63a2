// search_state: a search between generations as bytes: the archive and a fingerprint of what it belongs to.
//
//   "eep-search\n"  u32 version  u64 fingerprint  u64 count
//   count x { u8 phase  u32 generation  u16 length, origin  genome (genome_io)
//             f64 fitness  f64 tiebreak  i32 n  u8 cached
//             version 2, where a search has fresh items or reads decisions:
//             i64 shard  u32 items  items x { i32 end  i32 right }  f32 log-probabilities }
//   u64 XXH3-64 of all before
// Little-endian.
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

// Throws Error(kData) on damage, Error(kConfig) on another fingerprint, naming `where`.
std::vector<ArchiveEntry> read_search_state(const GenomeSpace& space, uint64_t fingerprint,
                                            std::string_view state, const char* where);

}  // namespace eep
