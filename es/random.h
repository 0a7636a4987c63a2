// random: addressed random numbers. A number is a function of where it is used, never of how many were drawn
// before it, so chunking, threads, ranks or a resume cannot shift a search.
//
//   (seed) is Philox's 64-bit key; the 128-bit counter holds the rest of the address, each field in bits of
//   its own, so two addresses never share a number:
//     word 0  attempt 16 (used by rejection) | column 16     word 1  row 24 | purpose 8
//     word 2  individual 20 | group 12                       word 3  generation 32
#pragma once

#include <cstdint>
#include <vector>

namespace eep {

// What a number decides. The values are part of every archive ever written: append, never renumber.
enum class Purpose : uint8_t {
  kInitialGenome = 0,
  kTieOrder = 1,  // column: first, second parent
  kFlag = 2,      // column 0: W_EM, 1: W_RM; row: redraw
  kUseCrossover = 3,
  kMutationParent = 4,
  kCrossoverParent = 5,  // column: first, second
  kCrossoverEm = 6,      // row of the matrix
  kCrossoverRm = 7,
  kRowMutates = 8,
  kRowExpert = 9,
  kElementEm = 10,  // row, column of the matrix: does it mutate
  kElementRm = 11,
  kNoiseEm = 12,
  kNoiseRm = 13,
  kNormalise = 14,
  kBaselineRandom = 15,  // individual: draw; group: layer group
  kSubset = 16,          // row: attempt; individual: subset
  kShard = 17,           // generation: epoch; row: place in the permutation
  kDirection = 18,       // generation: basis; row; group, column: coordinate
  kSample = 19,          // individual: pair or sample; group, row, column: coordinate
  kSwap = 20,            // of a kept expert; column even: leaves, odd: enters
  kSwitch = 21,          // of levels; row: which switch
  kSetCrossover = 22,    // column: place
  kTournament = 23,      // row: which parent; column: entrant
  kNeighbour = 24,       // generation: visit; row: place in the order
  kKick = 25,            // generation: kick; individual: which swap
  kMove = 26,            // row: which move
  kResize = 27,          // row: which resize
  kShrink = 28,          // row: step
  kTopK = 29,            // row: which change
  kRace = 30,            // row: place in the permutation
};

struct Address {
  uint64_t seed = 0;
  Purpose purpose = Purpose::kInitialGenome;
  uint32_t generation = 0;
  uint32_t individual = 0;  // < 2^20, in its generation
  uint32_t group = 0;       // < 2^12
  uint32_t row = 0;         // < 2^24
  uint32_t column = 0;      // < 2^16
};

// In [0, 1), 53 bits. Throws Error(kConfig) if a field does not fit, as do the others.
double random_uniform(const Address& address);
// In 0..n-1, unbiased (rejection). n > 0.
uint64_t random_below(const Address& address, uint64_t n);
// Standard normal.
double random_normal(const Address& address);
// `count` distinct numbers of 0..n-1, every subset equally likely, ascending. Uses the columns 0..count-1.
std::vector<int32_t> random_subset(const Address& address, int32_t n, int32_t count);

}  // namespace eep
