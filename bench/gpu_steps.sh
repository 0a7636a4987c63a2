#!/usr/bin/env bash
# The steps of gpu_run.sh that are more than one command: gpu_steps.sh STEP ARGUMENTS... In the environment:
# BUNDLE (unpacked), OUTPUT, SCRATCH, DEVICE (cuda or simt), TINY (1: small extents).
set -u -o pipefail
device=${DEVICE:?} bundle=${BUNDLE:?} output=${OUTPUT:?} scratch=${SCRATCH:?}
tests=$bundle/tests_cuda
[ "$device" = simt ] && tests=$bundle/tests_kernels
tiny=()
[ "${TINY:-0}" = 1 ] && tiny=(--tiny)

# Line by line, as it is printed: a step that is cut off leaves what it has said.
live() { if command -v stdbuf >/dev/null 2>&1; then stdbuf -oL "$@"; else "$@"; fi; }

# What the machine is, and whether the programs find their libraries and a device.
environment() {
  local fields=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit
  nvidia-smi --query-gpu=$fields --format=csv
  nvidia-smi
  uname -a
  ldd --version | head -n 1
  command -v nvcc ncu compute-sanitizer python3
  cat "$bundle/BUNDLE"
  local missing=0 program
  for program in "$tests" "$bundle/bench_device" "$bundle/bench_model" "$bundle/eep"; do
    echo "-- $(basename "$program")"
    ldd "$program" || missing=1
    ldd "$program" | grep -q 'not found' && missing=1
  done
  "$bundle/eep" doctor --device "$device" || missing=1
  [ $missing -eq 0 ] && echo "every library is found" ||
    { echo "libraries or the device are missing"; return 1; }
}

# Test cases by filters of doctest; a filter that names no case fails. cases FILTER [EXCLUDE] [TOOL...]: under
# the tool.
cases() {
  local filter=$1 exclude=${2:-} status before=(live)
  shift $(($# < 2 ? $# : 2))
  [ $# -gt 0 ] && before=("$@")
  "${before[@]}" "$tests" "--test-case=$filter" "--test-case-exclude=$exclude" 2>&1 | tee "$scratch/cases"
  status=$?
  grep -qE 'test cases: +0 ' "$scratch/cases" && { echo "no case has this name"; return 9; }
  return $status
}

# Cases that no other step names; there may be none. other_cases FILTER EXCLUDE
other_cases() { live "$tests" "--test-case=$1" "--test-case-exclude=$2"; }

# Every case of the filter in a process of its own. each_case SECONDS FILTER
each_case() {
  local name worst=0 status
  while IFS= read -r name; do
    timeout -k 3 "$1" bash "$0" cases "$name"
    status=$?
    echo "$status: $name"
    [ $status -gt $worst ] && worst=$status
  done < <("$tests" --list-test-cases "--test-case=$2" | grep -E '^(gpu|uploads|beside)' | tr ',' '?')
  return $worst
}

# Taps of every layer, the device against the CPU. taps MODEL
taps() {
  "$bundle/eep" logits "$1" --ids "1 5 9 12 7 3" --taps "$scratch/taps" --device cpu &&
    "$bundle/eep" logits "$1" --ids "1 5 9 12 7 3" --taps-against "$scratch/taps" --device "$device"
}

# Weights beyond the memory limit are streamed; the logits keep their bits. streamed MODEL
streamed() {
  local least limit memory
  least=$("$bundle/eep" logits "$1" --ids "1 5" --out "$scratch/unused" --device "$device" --memory \
    1000 2>&1 |
    sed -n 's/.*expected at least \([0-9]*\) .*/\1/p')
  [ -n "$least" ] || { echo "no limit is too small"; return 1; }
  limit=$((least + least * 3 / 4))
  "$bundle/eep" inspect "$1" --json --device "$device" --memory "$limit" |
    grep -E '"streamed_layers": *[1-9]' ||
    { echo "no layer is streamed within $limit bytes"; return 1; }
  for memory in 8G "$limit"; do
    "$bundle/eep" logits "$1" --ids "1 5 9 12 7 3" --out "$scratch/logits.$memory" --device "$device" \
      --memory "$memory" || return
  done
  cmp "$scratch/logits.8G" "$scratch/logits.$limit" && echo "the same bits within 8G and $limit bytes"
}

# A search, shorter than the demo's, twice the same archive.
search() {
  local again task=sum small=(--set search.prune.evaluations=48 --set search.merge.evaluations=64)
  [ "${TINY:-0}" = 1 ] && task=sort small=(--set task.train.limit=2 --set task.train.shard=2 --set \
    task.train.fixed=2
    --set search.merge.algorithm=eep --set 'controls=[]' --set task.dev.limit=1 --set task.test.limit=1 \
      --set search.population=2
    --set search.dev_count=1 --set search.prune.evaluations=2 --set search.merge.evaluations=3 --set \
      'baselines=[full]')
  for again in 1 2; do
    "$bundle/eep" run "$bundle/experiments/demo/demo.yaml" --set "sweep.task.name=[$task]" --set \
      'sweep.plan.experts=[4]' \
      "${small[@]}" --device "$device" --output "$scratch/run$again" || return
  done
  cmp "$(find "$scratch/run1" -name archive.jsonl | head -n 1)" "$(find "$scratch/run2" -name archive.jsonl |
    head -n 1)" &&
    echo "two runs have the same archive"
}

# Ops at the shapes of released models, filters in the order of their value; rows go to ops.csv. ops FILTER...
ops() {
  local filter filters=()
  for filter in "$@"; do filters+=(--filter "$filter"); done
  live "$bundle/bench_device" --device "$device" --csv "$output/ops.csv" --seconds "${SAMPLING:-0.15}" \
    "${tiny[@]}" "${filters[@]}"
}

# A synthetic model; its line goes to models.jsonl. model CONFIG OPTIONS...
model() {
  local config=bench/configs/$1.json
  cd "$bundle" || return
  shift
  [ "${TINY:-0}" = 1 ] && config=experiments/demo/mixtral/config.json &&
    set -- --candidates 2 --layers 1 --prompts 2 --tokens 6 --phase merge
  live "$bundle/bench_model" "$config" --device "$device" "$@" | tee -a "$output/models.jsonl" || return
  tail -n 1 "$output/models.jsonl" |
    grep -oE '"(tokens_per_second|tflop_per_second|decode_step_seconds|same_twice)":[^,}]*' |
    tr '\n' ' '
}

# A profile of the first launch of a kernel. profile KERNELS FILTER: a regular expression, a case
profile() {
  command -v ncu >/dev/null 2>&1 || { echo "ncu is not installed"; return 77; }
  local filter=$2
  [ "${TINY:-0}" = 1 ] && filter='B2 gemm square'
  cp "$output/ops.csv" "$scratch/profiled.csv" 2>/dev/null  \
    # for its ceilings; times under a profiler are no results
  ncu --set basic --clock-control none -k "regex:$1" --launch-count 1 "$bundle/bench_device" --device \
    "$device" \
    --csv "$scratch/profiled.csv" --seconds 0.01 "${tiny[@]}" --filter "$filter"
}

# Other programs at the shapes of B1, B3 and B4. peers PYTHON
peers() {
  local small=()
  [ "$device" = simt ] && small=(--device cpu --tiny)
  PYTHONUNBUFFERED=1 "$1" "$bundle/bench/peers/gpu_moe.py" --csv "$output/peers.csv" "${small[@]}"
}

"$@"
