#!/usr/bin/env bash
# bench/gpu_check.sh walked through without a GPU: where nothing answers it ends with one line and 77; with stand-ins for the
# driver, the compiler and the programs it runs every step, writes its report, and fails when one of them does.
set -u
. "$(dirname "$0")/sources.sh"
scratch=$(mktemp -d) || exit 74
trap 'rm -rf "$scratch"' EXIT
tree=$scratch/tree
mkdir -p "$tree/bench" "$tree/build/tests" "$scratch/bin" "$tree/experiments/demo"
cp bench/gpu_check.sh "$tree/bench/"

fail() { echo "gpu_check_dry: $*"; exit 1; }
# stand_in FILE BODY: an executable whose calls are logged
stand_in() {
  printf '#!/bin/sh\necho "$(basename "$0") $*" >>%s/calls\n%s\n' "$scratch" "$2" >"$1"
  chmod +x "$1"
}

stand_in "$scratch/bin/nvidia-smi" 'exit 9'
PATH=$scratch/bin:$PATH "$tree/bench/gpu_check.sh" >"$scratch/out" 2>&1
[ $? -eq 77 ] || fail "without a GPU it does not end with 77"
[ "$(cat "$scratch/out")" = "gpu_check: no GPU or driver here" ] || fail "without a GPU it says $(cat "$scratch/out")"

stand_in "$scratch/bin/nvidia-smi" 'case "$*" in *compute_cap*) echo 9.0 ;; *name*) echo "Stand In" ;; *) echo 1 ;; esac'
stand_in "$scratch/bin/nvcc" 'echo "release 0.0"; echo "build"'
stand_in "$scratch/bin/cmake" ''
stand_in "$scratch/bin/compute-sanitizer" ''
stand_in "$scratch/bin/python3" 'echo "| peer |"'
for program in tests/tests_cuda bench_device; do stand_in "$tree/build/$program" ''; done
stand_in "$tree/build/bench_model" 'echo "{}"'
stand_in "$tree/build/eep" 'while [ $# -gt 0 ]; do [ "$1" = --output ] && mkdir -p "$2/one run" && echo 1 >"$2/one run/archive.jsonl"; shift; done'
PATH=$scratch/bin:$PATH "$tree/bench/gpu_check.sh" >"$scratch/out" 2>&1 || fail "with stand-ins it fails: $(cat "$scratch/out")"
report=$tree/bench/results/Stand_In/gpu_check.md
grep -q '^0 checks failed$' "$report" || fail "the report does not say that nothing failed"
for step in 'compute-sanitizer racecheck' 'same archive' 'wgmma' 'B1 to B6' 'B7' 'B8' 'B9' 'other programs'; do
  grep -q -- "^- .*$step.*: ok" "$report" || fail "the step '$step' is not in the report"
done
for call in 'tests_cuda --order-by' 'compute-sanitizer --tool initcheck' 'bench_device --device cuda --csv' \
  'eep run experiments/demo/demo.yaml'; do
  grep -q -- "^$call" "$scratch/calls" || fail "'$call' was not called"
done
[ "$(wc -l <"$tree/bench/results/Stand_In/models.jsonl")" -ge 10 ] || fail "models.jsonl lacks lines"
# every option that it passes to bench_model is one that the program has
for option in $(grep '^bench_model' "$scratch/calls" | grep -oE -- '--[a-z]+' | sort -u); do
  grep -q -- "\"$option\"" bench/bench_model.cpp experiments/options.cpp || fail "bench_model has no $option"
done
for config in $(grep '^bench_model' "$scratch/calls" | awk '{print $2}' | sort -u); do
  [ -f "$config" ] || fail "there is no $config"
done

stand_in "$tree/build/tests/tests_cuda" 'echo "a case failed"; exit 3'
PATH=$scratch/bin:$PATH "$tree/bench/gpu_check.sh" --quick >"$scratch/out" 2>&1 && fail "a failing test goes unseen"
grep -q '^    a case failed$' "$report" || fail "the report does not show what failed"
grep -q '^2 checks failed$' "$report" || fail "the report counts wrongly"
echo "gpu_check_dry: ok"
