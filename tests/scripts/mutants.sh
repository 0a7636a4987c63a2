#!/usr/bin/env bash
# The net of the kernel tests holds: kernels with one bug each, made from the sources by sed, must fail the tests that
# the sources pass. mutants.sh BUILD [COMPILER]: BUILD holds the objects of tests_kernels.
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

# mutant KERNEL TEST NAME SED: kernels/KERNEL.cu changed by SED must fail test_gpu_TEST.cpp.
mutant() {
  local kernel=$1 test=$2 name=$3 change=$4 status
  sed -E "$change" "kernels/$kernel.cu" >"$scratch/$kernel.cu"
  if cmp -s "kernels/$kernel.cu" "$scratch/$kernel.cu"; then
    echo "mutants: $kernel, $name: the pattern is not in the source"
    missed=$((missed + 1))
    return
  fi
  # The mutant's object comes before the library, whose own member is then left out.
  if ! "$compiler" -std=c++20 -O1 -g1 -ffp-contract=off -Wno-unknown-pragmas -I. -x c++ -c "$scratch/$kernel.cu" \
    -o "$scratch/mutant.o" 2>"$scratch/log" ||
    ! "$compiler" -fopenmp "$objects/main.cpp.o" "$objects/kernels/test_gpu_$test.cpp.o" "$scratch/mutant.o" $libraries \
      $(pkg-config --libs libhwy 2>/dev/null || echo -lhwy) -o "$scratch/test" 2>>"$scratch/log"; then
    echo "mutants: $kernel, $name: does not build"
    head -n 5 "$scratch/log"
    missed=$((missed + 1))
    return
  fi
  # In a shell of its own, whose word on a crash is not for the report.
  (timeout 300 "$scratch/test" --abort-after=1; exit $?) >"$scratch/out" 2>&1
  status=$?
  if [ $status -eq 0 ] || [ $status -eq 124 ]; then
    echo "mutants: $kernel, $name: not caught"
    missed=$((missed + 1))
  else
    caught=$((caught + 1))
  fi
}

mutant router router 'no barrier before the tiles are refilled' 's/__syncthreads\(\);( *\/\/ nobody reads the tiles)/\1/'
mutant router router 'no barrier between logits and selection' 's/__syncthreads\(\);( *\/\/ the block.s logits)/\1/'
mutant router router 'one expert too many' 's/c < args\.experts\)/c <= args.experts)/'
mutant router router 'half the mask' 's/__reduce_min_sync\(~0u/__reduce_min_sync(0xffffu/'
mutant router router 'ties to the higher index' 's/key > best\)/key >= best)/'
mutant dispatch dispatch 'a rank that counts the lane itself' 's/\(1u << lane\) - 1/(2u << lane) - 1/'
mutant dispatch dispatch 'no warp barrier before the next position moves' 's/__syncwarp\(\);( *\/\/ all have read)/\1/'
mutant dispatch dispatch 'no barrier in the scan' 's/__syncthreads\(\);( *\/\/ all have read)/\1/'
mutant expert_stats expert_stats 'the slot after' 's/__ffs\(static_cast<int>\(rest\)\) - 1/__ffs(static_cast<int>(rest))/'
mutant score score 'no barrier between stages and logits' 's/__syncthreads\(\);( *\/\/ the stages)/\1/'
mutant score score 'a sum that was never begun' 's/c > begin\)/c >= begin)/'
mutant rmsnorm rows 'a column that is skipped' 's/int64_t i = lane; i < dim/int64_t i = lane; i + 1 < dim/'
mutant gpu_memory uploads 'a copy that waits for no work before it' 's/free_from\.make_wait\(uploads\.stream\);//'
mutant gpu_memory uploads 'work that does not wait for its copy' 's/arrived\.make_wait\(.*$//'

echo "mutants: $caught caught, $missed missed"
[ $missed -eq 0 ]
