// The cases of every op, listed once: correctness, sanitizers and benchmarks walk them. Odd sizes are the
// norm: 1, 31, 33, primes, one more than a tile or a block.
#pragma once

#include <cstdint>

#include "kernels/common/tensor.h"

namespace eep::test {

struct GemmCase {
  int64_t rows, n, k;
  DType dtype;
  uint64_t seed;
};
inline constexpr GemmCase kGemmCases[] = {
    {1, 1, 1, DType::kF32, 1},       {1, 16, 31, DType::kBF16, 2},   {6, 17, 33, DType::kF16, 3},
    {7, 31, 127, DType::kBF16, 4},   {12, 64, 257, DType::kBF16, 5}, {13, 65, 256, DType::kBF16, 6},
    {33, 48, 513, DType::kF16, 7},   {64, 80, 96, DType::kBF16, 8},  {97, 129, 67, DType::kF32, 9},
    {200, 33, 31, DType::kBF16, 10}, {70, 72, 300, DType::kF32, 11}, {2, 130, 40, DType::kF16, 12},
    {3, 97, 40, DType::kBF16, 13},   {5, 33, 520, DType::kF32, 14}};

// Real shapes, for timing: an expert of Qwen3-30B-A3B, the demo's experts and projections.
inline constexpr GemmCase kGemmShapes[] = {
    {1, 1536, 2048, DType::kBF16, 1},   {4, 1536, 2048, DType::kBF16, 1},  {6, 1536, 2048, DType::kBF16, 1},
    {8, 1536, 2048, DType::kBF16, 1},   {12, 1536, 2048, DType::kBF16, 1}, {16, 1536, 2048, DType::kBF16, 1},
    {32, 1536, 2048, DType::kBF16, 1},  {64, 1536, 2048, DType::kBF16, 1}, {96, 1536, 2048, DType::kBF16, 1},
    {512, 1536, 2048, DType::kBF16, 1}, {1, 256, 128, DType::kBF16, 1},    {4, 256, 128, DType::kBF16, 1},
    {8, 256, 128, DType::kBF16, 1},     {16, 256, 128, DType::kBF16, 1},   {64, 256, 128, DType::kBF16, 1},
    {512, 256, 128, DType::kBF16, 1},   {1, 128, 256, DType::kBF16, 1},    {8, 128, 256, DType::kBF16, 1},
    {16, 128, 256, DType::kBF16, 1},    {64, 128, 256, DType::kBF16, 1},   {512, 128, 256, DType::kBF16, 1},
    {16, 1536, 2048, DType::kF32, 1},   {64, 1536, 2048, DType::kF32, 1},  {16, 1536, 2048, DType::kF16, 1},
    {64, 1536, 2048, DType::kF16, 1}};

struct RowsCase {  // embed, rmsnorm, combine
  int64_t rows, width;
  uint64_t seed;
};
inline constexpr RowsCase kRowsCases[] = {{1, 1, 21},   {3, 15, 22},  {2, 16, 23},    {5, 17, 24},
                                          {31, 33, 25}, {64, 96, 26}, {130, 127, 27}, {7, 1024, 28}};
inline constexpr RowsCase kRowsShapes[] = {{64, 128, 1}, {1024, 128, 1}, {4096, 64, 1}, {512, 2048, 1}};

struct RopeCase {
  int64_t rows, heads, head_dim;
  uint64_t seed;
};
inline constexpr RopeCase kRopeCases[] = {
    {1, 1, 2, 31}, {7, 3, 10, 32}, {33, 4, 32, 33}, {65, 2, 128, 34}, {3, 19, 12, 35}};
inline constexpr RopeCase kRopeShapes[] = {{1024, 8, 32, 1}, {512, 32, 128, 1}};

struct AttentionCase {
  int64_t heads, kv_heads, head_dim;
  int64_t length;  // of the sequence
  int64_t window;
  uint64_t seed;
};
inline constexpr AttentionCase kAttentionCases[] = {
    {1, 1, 8, 1, 0, 41},     {4, 4, 32, 20, 0, 42},   {4, 2, 32, 63, 0, 43},    {8, 2, 16, 64, 0, 44},
    {6, 2, 20, 65, 0, 45},   {4, 1, 33, 150, 0, 46},  {4, 4, 48, 130, 1, 47},   {4, 2, 32, 150, 40, 48},
    {2, 1, 64, 200, 64, 49}, {2, 2, 16, 140, 65, 50}, {3, 3, 100, 70, 128, 51}, {16, 2, 24, 90, 0, 52}};

struct AttentionShape {  // for timing: runs of `queries` last rows of sequences of `length`
  int64_t runs, queries, length, heads, kv_heads, head_dim;
  uint64_t seed;
};
inline constexpr AttentionShape kAttentionShapes[] = {{64, 20, 20, 4, 2, 32, 1}, {64, 60, 60, 4, 2, 32, 1},
                                                      {64, 1, 40, 4, 2, 32, 1},  {64, 1, 60, 8, 8, 16, 1},
                                                      {64, 4, 60, 4, 2, 32, 1},  {4, 512, 512, 8, 2, 128, 1},
                                                      {16, 1, 512, 8, 2, 128, 1}};

struct RouterCase {
  int64_t rows;
  int32_t experts, kept, top_k;
  int64_t hidden;
  uint64_t seed;
};
inline constexpr RouterCase kRouterCases[] = {
    {1, 1, 1, 1, 8, 61},      {33, 8, 4, 2, 31, 62},  {64, 8, 2, 1, 128, 63},
    {65, 24, 12, 4, 96, 64},  {7, 60, 30, 4, 64, 65}, {130, 16, 16, 3, 33, 66},
    {40, 128, 64, 8, 48, 67}, {9, 17, 3, 3, 40, 68},  {5, 1024, 600, 32, 24, 76}};
inline constexpr RouterCase kRouterShapes[] = {{1024, 8, 4, 2, 128, 1},
                                               {1024, 24, 12, 4, 128, 1},
                                               {512, 60, 30, 4, 2048, 1},
                                               {512, 128, 64, 8, 2048, 1}};

struct ExpertCase {
  int64_t rows;
  int32_t slots, experts;
  int64_t hidden, intermediate;
  DType dtype;
  int skew;  // 0: uniform; 1: all tokens on one expert; 2: the first half of the experts stays empty
  uint64_t seed;
};
inline constexpr ExpertCase kExpertCases[] = {
    {1, 1, 1, 8, 8, DType::kF32, 0, 71},
    {1, 2, 8, 32, 48, DType::kBF16, 0, 72},
    {31, 2, 4, 33, 17, DType::kBF16, 0, 73},
    {64, 4, 16, 48, 31, DType::kF16, 0, 74},
    {130, 2, 4, 64, 96, DType::kBF16, 1, 75},
    {97, 3, 7, 40, 65, DType::kBF16, 2, 76},
    {450, 1, 3, 16, 33, DType::kF32, 0, 77},
    {5, 1, 1, 330, 140, DType::kBF16, 0, 79}};  // all stages, both halves
inline constexpr ExpertCase kExpertShapes[] = {
    {1, 2, 8, 128, 256, DType::kBF16, 0, 1},     {16, 2, 8, 128, 256, DType::kBF16, 0, 1},
    {64, 2, 8, 128, 256, DType::kBF16, 0, 1},    {256, 2, 8, 128, 256, DType::kBF16, 0, 1},
    {2048, 2, 8, 128, 256, DType::kBF16, 0, 1},  {64, 4, 24, 128, 64, DType::kBF16, 0, 1},
    {2048, 4, 24, 128, 64, DType::kBF16, 0, 1},  {16, 4, 16, 2048, 1536, DType::kBF16, 0, 1},
    {256, 4, 16, 2048, 1536, DType::kBF16, 0, 1}};

struct ScoreCase {
  int64_t count, vocabulary, hidden;
  DType dtype;
  uint64_t seed;
};
inline constexpr ScoreCase kScoreCases[] = {{1, 1, 8, DType::kF32, 81},      {5, 31, 33, DType::kBF16, 82},
                                            {24, 256, 32, DType::kBF16, 83}, {70, 390, 48, DType::kBF16, 84},
                                            {25, 257, 16, DType::kF16, 85},  {3, 20000, 8, DType::kBF16, 86},
                                            {300, 97, 16, DType::kF32, 87}};
inline constexpr ScoreCase kScoreShapes[] = {{64, 390, 128, DType::kBF16, 1},
                                             {512, 390, 128, DType::kBF16, 1},
                                             {1, 32000, 512, DType::kBF16, 1},
                                             {64, 32000, 512, DType::kBF16, 1}};

struct MergeCase {
  int32_t experts, rows;
  int64_t elements;
  DType dtype;
  uint64_t seed;
};
inline constexpr MergeCase kMergeCases[] = {{1, 1, 1, DType::kF32, 91},
                                            {8, 4, 1031, DType::kBF16, 92},
                                            {8, 2, 4096, DType::kF16, 93},
                                            {17, 9, 2050, DType::kBF16, 94},
                                            {5, 5, 130, DType::kF32, 95}};
inline constexpr MergeCase kMergeShapes[] = {{8, 4, 98304, DType::kBF16, 1},
                                             {8, 32, 98304, DType::kBF16, 1},
                                             {24, 12, 24576, DType::kBF16, 1},
                                             {60, 30, 200000, DType::kBF16, 1},
                                             {8, 4, 98304, DType::kF32, 1}};

}  // namespace eep::test
