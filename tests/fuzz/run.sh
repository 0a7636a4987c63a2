#!/usr/bin/env bash
# Runs every fuzzer of a build for some seconds, one a core at a time: run.sh BUILD_DIRECTORY SECONDS
# [PARSER...]. What it learns is kept in BUILD_DIRECTORY/corpus; an input that crashes, hangs or takes too
# much memory is left in BUILD_DIRECTORY/findings.
set -u
here=$(cd "$(dirname "$0")" && pwd)
build=$1 seconds=$2
shift 2
export here build seconds
mkdir -p "$build/findings"

# One parser. 255 stops xargs.
fuzz() {
  local parser=$1 log=$build/findings/$1.log dictionary=() runs
  mkdir -p "$build/corpus/$parser"
  [ -f "$here/$parser.dict" ] && dictionary=("-dict=$here/$parser.dict")
  if "$build/fuzz_$parser" "$build/corpus/$parser" "$here/corpus/$parser" "${dictionary[@]}" \
    -max_total_time="$seconds" \
    -timeout=10 -rss_limit_mb=1500 -malloc_limit_mb=1000 -max_len=32768 -print_final_stats=1 \
    -artifact_prefix="$build/findings/$parser-" >"$log" 2>&1; then
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    echo "fuzz $parser: ${runs:-?} inputs, ok"
  else
    tail -n 40 "$log"
    echo "fuzz $parser: FAILED, input in $build/findings"
    return 255
  fi
}
export -f fuzz

parsers=("$@")
if [ $# -eq 0 ]; then
  for program in "$build"/fuzz_*; do
    [ -f "$program" ] && [ -x "$program" ] && parsers+=("${program##*/fuzz_}")
  done
fi
[ ${#parsers[@]} -gt 0 ] || { echo "fuzz: no fuzzers in $build"; exit 1; }
printf '%s\n' "${parsers[@]}" | xargs -P "$(nproc)" -I{} bash -c 'fuzz {}' || exit 1
echo "fuzz: ${#parsers[@]} parsers passed, 0 failed"
