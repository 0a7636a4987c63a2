#!/usr/bin/env bash
# Runs every fuzzer of a build for some seconds: run.sh BUILD_DIRECTORY SECONDS [PARSER...]. What it learns is kept in
# BUILD_DIRECTORY/corpus; an input that crashes, hangs or takes too much memory is left in BUILD_DIRECTORY/findings.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$1 seconds=$2
shift 2
mkdir -p "$build/findings"

passed=0
for program in "$build"/fuzz_*; do
  [ -x "$program" ] || continue
  parser=$(basename "$program")
  parser=${parser#fuzz_}
  [ $# -eq 0 ] || [[ " $* " == *" $parser "* ]] || continue
  mkdir -p "$build/corpus/$parser"
  log=$build/findings/$parser.log
  dictionary=()
  [ -f "$here/$parser.dict" ] && dictionary=("-dict=$here/$parser.dict")
  if "$program" "$build/corpus/$parser" "$here/corpus/$parser" "${dictionary[@]}" -max_total_time="$seconds" -timeout=10 \
    -rss_limit_mb=1500 -malloc_limit_mb=1000 -max_len=32768 -print_final_stats=1 \
    -artifact_prefix="$build/findings/$parser-" >"$log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz $parser: ${runs:-?} inputs, ok"
    passed=$((passed + 1))
  else
    tail -n 40 "$log"
    echo "fuzz $parser: FAILED, input in $build/findings"
    exit 1
  fi
done
[ $passed -gt 0 ] || { echo "fuzz: no fuzzers in $build"; exit 1; }
echo "fuzz: $passed parsers passed, 0 failed"
