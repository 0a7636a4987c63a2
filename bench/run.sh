#!/usr/bin/env bash
# Every microbenchmark, then the population benchmark on the demo model: run.sh BUILD_DIRECTORY [OPTION...];
# options go to the microbenchmarks (bench.h).
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
failed=0
for program in "$build"/bench_*; do
  [ -x "$program" ] || continue
  case $program in
    */bench_population | */bench_device | */bench_model) continue ;;
  esac
  "$program" "$@" || failed=$((failed + 1))
done
model=experiments/demo/mixtral
for task in sort recall letter; do
  echo
  echo "population: $model, $task, $(nproc) threads"
  "$build/bench_population" "$model" "$task" --threads "$(nproc)" || failed=$((failed + 1))
done
exit $((failed > 0))
