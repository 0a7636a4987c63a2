// Genomes as exact bytes. Where it varies top_k (u16, 0: the space's). Per group: where counts vary their
// number of rows (u16); one byte (1: W_RM has the bits of W_EM and is left out), then rows of W_EM and W_RM.
// A row: byte 0 and a u16 index (one-hot with the entry 1), or byte 1, a bit mask of the entries whose bits
// are not zero, and these entries as f32.
#include <bit>
#include <cmath>
#include <cstring>

#include "es/bytes.h"
#include "es/genome.h"
#include "kernels/common/expected.h"

namespace eep {
namespace {

constexpr uint8_t kOneHot = 0;
constexpr uint8_t kSparse = 1;

void write_row(const float* row, int32_t experts, std::string& out) {
  int32_t hot = -1;
  int32_t count = 0;
  for (int32_t expert = 0; expert < experts; ++expert) {
    if (std::bit_cast<uint32_t>(row[expert]) == 0) continue;
    hot = expert;
    ++count;
  }
  if (count == 1 && row[hot] == 1.0f) {
    put(kOneHot, out);
    put(static_cast<uint16_t>(hot), out);
    return;
  }
  put(kSparse, out);
  for (int32_t first = 0; first < experts; first += 8) {
    uint8_t mask = 0;
    for (int32_t bit = 0; bit < 8 && first + bit < experts; ++bit) {
      if (std::bit_cast<uint32_t>(row[first + bit]) != 0) mask = static_cast<uint8_t>(mask | (1u << bit));
    }
    put(mask, out);
  }
  for (int32_t expert = 0; expert < experts; ++expert) {
    if (std::bit_cast<uint32_t>(row[expert]) != 0) put(row[expert], out);
  }
}

void read_row(float* row, int32_t experts, std::string_view& bytes, const char* where) {
  const auto kind = take<uint8_t>(bytes, where);
  if (kind == kOneHot) {
    const auto hot = take<uint16_t>(bytes, where);
    if (hot >= experts) {
      throw Error(ExitCode::kData, where,
                  "expert out of range" + expected_got("below " + std::to_string(experts), hot));
    }
    row[hot] = 1.0f;
    return;
  }
  if (kind != kSparse) {
    throw Error(ExitCode::kData, where, "unknown kind of row" + expected_got("0 or 1", kind));
  }
  const std::string_view masks = take_bytes(bytes, static_cast<size_t>((experts + 7) / 8), where);
  for (int32_t expert = 0; expert < experts; ++expert) {
    if (((static_cast<unsigned char>(masks[static_cast<size_t>(expert / 8)]) >> (expert % 8)) & 1) == 0)
      continue;
    row[expert] = take<float>(bytes, where);
    if (!std::isfinite(row[expert])) throw Error(ExitCode::kData, where, "a gene that is not finite");
  }
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

}  // namespace

void write_genome(const GenomeSpace& space, const Genome& genome, std::string& out) {
  const int32_t experts = space.experts;
  if (space.top_k_varies()) put(static_cast<uint16_t>(genome.top_k), out);
  for (const GroupGenes& group : genome.groups) {
    if (space.counts_vary()) put(static_cast<uint16_t>(group.kept), out);
    const bool tied = same_bits(group.w_em, group.w_rm);
    put(static_cast<uint8_t>(tied), out);
    for (size_t row = 0; row < group.w_em.size(); row += static_cast<size_t>(experts)) {
      write_row(group.w_em.data() + row, experts, out);
    }
    for (size_t row = 0; !tied && row < group.w_rm.size(); row += static_cast<size_t>(experts)) {
      write_row(group.w_rm.data() + row, experts, out);
    }
  }
}

Genome read_genome(const GenomeSpace& space, std::string_view& bytes, const char* where) {
  Genome genome;
  if (space.top_k_varies()) genome.top_k = take<uint16_t>(bytes, where);
  if (genome.top_k > space.top_k) {
    throw Error(
        ExitCode::kData, where,
        "active experts out of range" + expected_got("at most " + std::to_string(space.top_k), genome.top_k));
  }
  for (const int32_t kept : space.kept) {
    const size_t experts = static_cast<size_t>(space.experts);
    GroupGenes group;
    group.kept = space.counts_vary() ? take<uint16_t>(bytes, where) : kept;
    if (space.counts_vary() && (group.kept < space.least || group.kept > space.most)) {
      throw Error(
          ExitCode::kData, where,
          "kept experts out of range" +
              expected_got(std::to_string(space.least) + ".." + std::to_string(space.most), group.kept));
    }
    const auto tied = take<uint8_t>(bytes, where);
    if (tied > 1) throw Error(ExitCode::kData, where, "broken genome" + expected_got("0 or 1", tied));
    group.w_em.assign(static_cast<size_t>(group.kept) * experts, 0.0f);
    for (size_t row = 0; row < group.w_em.size(); row += experts) {
      read_row(group.w_em.data() + row, space.experts, bytes, where);
    }
    if (tied == 1) {
      group.w_rm = group.w_em;
    } else {
      group.w_rm.assign(group.w_em.size(), 0.0f);
      for (size_t row = 0; row < group.w_rm.size(); row += experts) {
        read_row(group.w_rm.data() + row, space.experts, bytes, where);
      }
    }
    genome.groups.push_back(std::move(group));
  }
  return genome;
}

}  // namespace eep
