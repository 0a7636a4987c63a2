#!/usr/bin/env bash
# The net of the kernel tests holds: kernels with one bug each, made from the sources by sed, must fail the
# tests that the sources pass. mutants.sh BUILD [COMPILER]: BUILD holds the objects of tests_kernels.
set -u
build=$(cd "$1" && pwd)
compiler=${2:-c++}
cd "$(dirname "$0")/../.." || exit 1
objects=$build/tests/CMakeFiles/tests_kernels.dir
libraries="$build/kernels/libeep_kernels_simt.a $build/kernels/libeep_kernels.a"
[ -f "$objects/main.cpp.o" ] || { echo "mutants: tests_kernels is not built"; exit 77; }
scratch=$(mktemp -d) || exit 74
trap 'rm -rf "$scratch"' EXIT
caught=0 missed=0

mkdir -p "$scratch/kernels/gpu"
# mutant KERNEL TEST NAME SED [HEADER]: kernels/KERNEL.cu changed by SED, or left as it is with kernels/HEADER
# changed, must fail the GPU's cases of tests/kernels/TEST.cpp.
mutant() {
  local kernel=$1 test=$2 name=$3 change=$4 changed=${5:-$1.cu} status
  rm -f "$scratch"/kernels/*.* "$scratch"/kernels/gpu/*
  cp "kernels/$kernel.cu" "$scratch/kernels/$kernel.cu"
  sed -E "$change" "kernels/$changed" >"$scratch/kernels/$changed"
  if cmp -s "kernels/$changed" "$scratch/kernels/$changed"; then
    echo "mutants: $kernel, $name: the pattern is not in the source"
    missed=$((missed + 1))
    return
  fi
  # The mutant's object comes before the library, whose own member is then left out.
  if ! "$compiler" -std=c++20 -O1 -g1 -ffp-contract=off -Wno-unknown-pragmas -I"$scratch" -I. -x c++ -c \
    "$scratch/kernels/$kernel.cu" -o "$scratch/mutant.o" 2>"$scratch/log" ||
    ! "$compiler" -fopenmp "$objects/main.cpp.o" "$objects/kernels/$test.cpp.o" "$scratch/mutant.o" \
      $libraries $(pkg-config --libs libhwy 2>/dev/null || echo -lhwy) -o "$scratch/test" \
      2>>"$scratch/log"; then
    echo "mutants: $kernel, $name: does not build"
    head -n 5 "$scratch/log"
    missed=$((missed + 1))
    return
  fi
  # In a shell of its own, whose word on a crash is not for the report.
  (timeout 300 "$scratch/test" --abort-after=1 "--test-case=gpu *,uploads*,beside*"
    exit $?) >"$scratch/out" 2>&1
  status=$?
  if [ $status -eq 0 ] || [ $status -eq 124 ]; then
    echo "mutants: $kernel, $name: not caught"
    missed=$((missed + 1))
  else
    caught=$((caught + 1))
  fi
}

mutant router ops/test_router 'no barrier before a stage is refilled' \
  's/__syncthreads\(\);( *\/\/ the stage is complete)/\1/' gate_logits.h
mutant router ops/test_router 'a stage is multiplied before it has arrived' \
  's/cp_async_wait<Tile::kStages - 2>/cp_async_wait<Tile::kStages>/' gate_logits.h
mutant router ops/test_router 'one expert too many' \
  's/first_expert \+ column < args\.experts/first_expert + column <= args.experts/' gate_logits.h
mutant router ops/test_router 'no gate' 's/, 2 \* inside\)/, 0)/' gate_logits.h
mutant router ops/test_router 'the last k left out' 's/k < depth; \+\+k/k + 1 < depth; ++k/' gate_logits.h
mutant router ops/test_router 'a map that is not transposed' 's/e \* kept \+ r\)\]/r * experts + e)]/'
mutant router ops/test_router 'half the mask' 's/__reduce_min_sync\(~0u/__reduce_min_sync(0xffffu/'
mutant router ops/test_router 'ties to the higher index' 's/key\[i\] > best\)/key[i] >= best)/'
mutant dispatch ops/test_dispatch 'a rank that counts the lane itself' \
  's/\(1u << lane\) - 1/(2u << lane) - 1/'
mutant dispatch ops/test_dispatch 'no warp barrier before the next position moves' \
  's/__syncwarp\(\);( *\/\/ all have read)/\1/'
mutant dispatch ops/test_dispatch 'no barrier in the scan' \
  's/__syncthreads\(\);( *\/\/ the sums of all warps)/\1/'
mutant dispatch ops/test_dispatch 'counting before all counts are zero' \
  's/__syncthreads\(\);( *\/\/ all counts are zero)/\1/'
mutant dispatch ops/test_dispatch 'counts stored before all slots are counted' \
  's/__syncthreads\(\);( *\/\/ all slots are counted)/\1/'
mutant dispatch ops/test_dispatch 'counting before the counts of a warp are zero' \
  's/__syncwarp\(\);( *\/\/ its counts are zero)/\1/'
mutant dispatch ops/test_dispatch 'sums before all warps have counted' \
  's/__syncthreads\(\);( *\/\/ all warps have counted)/\1/'
mutant dispatch ops/test_dispatch 'placing before all warps have places' \
  's/__syncthreads\(\);( *\/\/ the first places of all warps)/\1/'
mutant dispatch ops/test_dispatch 'a bit of the group left out' 's/bit < bits/bit + 1 < bits/'
mutant dispatch ops/test_dispatch 'a slot beyond a share' 's/slot < end \? group/slot <= end ? group/'
mutant expert_stats ops/test_expert_stats 'the slot after' \
  's/__ffs\(static_cast<int>\(rest\)\) - 1/__ffs(static_cast<int>(rest))/'
mutant score ops/test_score 'no barrier between stages and logits' \
  's/__syncthreads\(\);( *\/\/ the stages)/\1/'
mutant score ops/test_score 'a sum that was never begun' 's/c > begin\)/c >= begin)/'
mutant gemm ops/test_gemm 'no barrier before a stage is refilled' \
  's/__syncthreads\(\);( *\/\/ the stage is complete)/\1/' gpu/mma_tile.h
mutant gemm ops/test_gemm 'a stage is multiplied before it has arrived' \
  's/cp_async_wait<Tile::kStages - 2>/cp_async_wait<Tile::kStages>/' gpu/mma_tile.h
mutant gemm ops/test_gemm 'weights beyond k' 's/min\(16, 2 \* \(k - at\)\)/16/' gpu/mma_tile.h
mutant expert_ffn ops/test_expert_ffn 'a group larger by a row' \
  's/position >= tile\.end\) return nullptr/position > tile.end) return nullptr/;
   s/position >= tile\.end\) continue/position > tile.end) continue/'
mutant expert_ffn ops/test_expert_ffn 'gate and up exchanged' \
  's/at\.up \? matrices\.up : matrices\.gate/at.up ? matrices.gate : matrices.up/'
mutant expert_ffn ops/test_expert_ffn 'the window of groups forgets what it passed' \
  's/passed \+= __shfl_sync\(~0u, until, 31\)/passed = __shfl_sync(~0u, until, 31)/' \
  expert_ffn_groups.h
mutant expert_ffn ops/test_expert_ffn 'half the mask' \
  's/__ballot_sync\(~0u/__ballot_sync(0xffffu/' expert_ffn_groups.h
mutant expert_ffn_sm90 ops/test_expert_ffn_sm90 'a stage is refilled while it is read' \
  's/mbarrier_wait\(stages_\.empty.*$//' gpu/wgmma_tile.h
mutant expert_ffn_sm90 ops/test_expert_ffn_sm90 'a stage is read before it is full' \
  's/mbarrier_wait\(stages_\.full.*$//' gpu/wgmma_tile.h
mutant expert_ffn_sm90 ops/test_expert_ffn_sm90 'a stage is announced before its rows are there' \
  's/cp_async_wait<kPending>\(\);//' gpu/wgmma_tile.h
mutant expert_ffn_sm90 ops/test_expert_ffn_sm90 'a stage is given back while it is read' \
  's/wgmma_wait<1>/wgmma_wait<2>/' gpu/wgmma_tile.h
mutant expert_ffn_sm90 ops/test_expert_ffn_sm90 'sums stored before they are complete' \
  's/wgmma_wait<0>\(\);//' \
  gpu/wgmma_tile.h
mutant expert_ffn_sm90 ops/test_expert_ffn_sm90 'half the bytes announced' \
  's/mbarrier_expect_tx\(full, 2 \*/mbarrier_expect_tx(full,/' gpu/wgmma_tile.h
mutant expert_ffn_sm90 ops/test_expert_ffn_sm90 'gate and up exchanged' 's/planes\.gate :/planes.up :/'
mutant expert_ffn_sm90 ops/test_expert_ffn_sm90 'the second half of down is the first' \
  's/column \+ WgmmaTile::kBoxRows,/column,/'
mutant expert_ffn_sm90 ops/test_expert_ffn_sm90 'sums of the tile before' 's/step > 0 \|\| part > 0/true/' \
  gpu/wgmma_tile.h
mutant expert_merge ops/test_expert_merge 'a coefficient rounded to 16 bits' \
  's/Half::mma\(sum\[i\]\[j\], rows\.part\[i\]\[p\]/Half::mma(sum[i][j], rows.part[i][0]/'
mutant expert_merge ops/test_expert_merge 'copies never waited for' 's/cp_async_wait<0>\(\);//'
mutant expert_merge ops/test_expert_merge 'no barrier before the experts are read' \
  's/__syncthreads\(\);( *\/\/ the base experts)/\1/'
mutant expert_merge ops/test_expert_merge 'a row block is refilled while it is read' \
  's/__syncthreads\(\);( *\/\/ the row block is)/\1/'
mutant expert_merge ops/test_expert_merge 'no barrier before rows are staged' \
  's/__syncthreads\(\);( *\/\/ nobody reads the rows)/\1/'
mutant expert_merge ops/test_expert_merge 'staged rows read before they are complete' \
  's/__syncthreads\(\);( *\/\/ the staged rows)/\1/'
mutant expert_merge ops/test_expert_merge 'the coefficients of the same rows again' \
  's/chunk_of\(min\(round \+ 1, rounds - 1\)\)/chunk_of(round)/'
mutant expert_merge ops/test_expert_merge 'the last row left out' \
  's/row < args\.rows \? args\.merged/row + 1 < args.rows ? args.merged/'
mutant expert_merge ops/test_expert_merge 'no barrier after the coefficients' \
  '0,/__syncthreads\(\);/s/__syncthreads\(\);//'
mutant attention ops/test_attention 'a key of the future' \
  's/first_position \+ 1 - block/first_position + 2 - block/' \
  attention_tile.h
mutant attention ops/test_attention 'a window one key too long' \
  's/ahead - args\.window : /ahead - args.window - 1 : /' attention_tile.h
mutant attention ops/test_attention 'no barrier before the keys are multiplied' \
  's/__syncthreads\(\);( *\/\/ the keys are split)/\1/' attention_wide.h
mutant attention ops/test_attention 'no barrier before the values are multiplied' \
  's/__syncthreads\(\);( *\/\/ the values are split)/\1/' attention_wide.h
mutant attention ops/test_attention 'no barrier before the maxima are read' \
  's/__syncthreads\(\);( *\/\/ the maxima)/\1/'
mutant attention ops/test_attention 'no barrier before fragments are read' \
  's/__syncthreads\(\);( *\/\/ sums and fragments)/\1/'
mutant attention ops/test_attention 'keys of a few tile never waited for' \
  's/cp_async_wait<1>\(\);( *\/\/ the keys)/\1/'
mutant attention ops/test_attention 'values of a few tile never waited for' \
  's/cp_async_wait<1>\(\);( *\/\/ the values)/\1/'
mutant attention ops/test_attention 'keys of a wide tile never waited for' \
  '/void split_keys/,/^  }/s/cp_async_wait<0>\(\);//' attention_wide.h
mutant attention ops/test_attention 'values of a wide tile never waited for' \
  '/void split_values/,/^  }/s/cp_async_wait<0>\(\);//' attention_wide.h
mutant attention ops/test_attention 'the sum is not rescaled' \
  's/fmaf\(state\.sum, rescale, total\)/state.sum + total/' attention_tile.h
mutant attention ops/test_attention 'the low halves of keys left out' 's/if \(part == 1\) mma_bf16.*$//' \
  attention_tile.h
mutant rmsnorm ops/test_rows 'a column that is skipped' 's/int i = lane; i < dim/int i = lane; i + 1 < dim/'
mutant rope ops/test_rope 'heads beyond one pass left out' 's/first \+= halves/first += heads/'
mutant rope ops/test_rope 'the second half of a head not normalised' \
  's/b = b \* scale \* args\.norm\[i \+ pairs\];//'
mutant rope ops/test_rope 'a head without its last element in the sum' \
  's/low, inside \? dim : 0/low, inside ? dim - 1 : 0/'
mutant rope ops/test_rope 'what does not turn is not normalised' \
  's/low\[i\] = low\[i\] \* scale \* args\.norm\[i\];/low[i] = low[i];/'
mutant clamp ops/test_rows 'what is below stays' 's/value < -args\.limit \? -args\.limit : //'
mutant combine ops/test_rows 'slots beyond those read together left out' \
  's/first \+= kAhead\)/first += args.slots)/'
mutant combine ops/test_rows 'vectors where rows do not start at 16 bytes' 's/args\.hidden % 4 == 0/true/'
mutant kv_scatter ops/test_rows 'keys where values belong' \
  's/values \? args\.v : args\.k/values ? args.k : args.v/'
mutant gpu/gpu_memory test_gpu_uploads 'a copy that waits for no work before it' \
  's/free_from\.make_wait\(uploads\.stream\);//'
mutant gpu/gpu_memory test_gpu_uploads 'work that does not wait for its copy' 's/arrived\.make_wait\(.*$//'
mutant gpu/gpu_beside test_gpu_uploads 'work that does not wait for the work beside it' \
  's/joined\.make_wait\(.*$//'
mutant gpu/gpu_beside test_gpu_uploads 'work beside that waits for no work before it' \
  's/stream->synchronize\(\);//'

echo "mutants: $caught caught, $missed missed"
[ $missed -eq 0 ]
