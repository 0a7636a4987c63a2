#!/usr/bin/env bash
# The ops on the CPU (cases C of bench_device), decoding of stored weights, then the population benchmark on
# the demo model: run.sh BUILD_DIRECTORY [OPTION...]; options go to the first two (bench/command_line.cpp), a
# --filter instead of "C ". bench_model, bench_search and bench_tokenizer have arguments of their own.
set -u
cd "$(dirname "$0")/.." || exit 1
build=$1
shift
failed=0
cases=(--filter 'C ')
[[ " $* " == *' --filter'* ]] && cases=()
"$build/bench_device" --device cpu "${cases[@]}" "$@" || failed=$((failed + 1))
echo
"$build/bench_decode" "$@" || failed=$((failed + 1))
model=experiments/demo/mixtral
for task in sort recall letter; do
  echo
  echo "population: $model, $task, $(nproc) threads"
  "$build/bench_population" "$model" "$task" --threads "$(nproc)" || failed=$((failed + 1))
done
exit $((failed > 0))
