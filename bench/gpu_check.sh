#!/usr/bin/env bash
# What a GPU machine confirms, in one command: build, the kernels' cases natively, compute-sanitizer on small shapes,
# bitwise repeatability, the engine against the CPU. Results go to bench/results/<GPU name>/. gpu_check.sh [BUILD]
set -u
cd "$(dirname "$0")/.." || exit 1
build=${1:-build}
command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1 || { echo "gpu_check: no GPU or driver here"; exit 77; }
command -v nvcc >/dev/null 2>&1 || PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null 2>&1 || { echo "gpu_check: nvcc is not installed"; exit 77; }
name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
results=bench/results/${name// /_}
mkdir -p "$results"
report=$results/gpu_check.md
failed=0

say() { printf '%s\n' "$*" | tee -a "$report"; }
# check NAME COMMAND...: its last lines go to the report, a failure is remembered.
check() {
  local what=$1 begin status
  shift
  begin=$(date +%s)
  "$@" >"$results/last.log" 2>&1
  status=$?
  if [ $status -eq 0 ]; then say "- $what: ok ($(($(date +%s) - begin)) s)"; else
    say "- $what: FAILED ($status)"
    tail -n 20 "$results/last.log" | sed 's/^/    /' | tee -a "$report"
    failed=$((failed + 1))
  fi
}

: >"$report"
say "# $name"
say ""
say "driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1), $(nvcc --version | tail -n 2 | head -n 1), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
say ""
check "configure" cmake --preset release -B "$build" -DEEP_CUDA=ON
check "build" cmake --build "$build" --parallel --target eep tests_cuda
check "kernels against double precision, natively" "$build/tests/tests_cuda"
check "kernels again: the same" "$build/tests/tests_cuda"
if command -v compute-sanitizer >/dev/null 2>&1; then
  for tool in memcheck racecheck initcheck synccheck; do
    check "compute-sanitizer $tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/tests_cuda"
  done
else
  say "- compute-sanitizer: not installed"
fi
model=experiments/demo/mixtral
check "the demo model says the same on both" bash -c "
  [ \"\$($build/eep generate $model --ids '1 5 9 12 7 3' --max-new 8 --device cuda)\" = \
    \"\$($build/eep generate $model --ids '1 5 9 12 7 3' --max-new 8 --device cpu)\" ]"
rm -f "$results/last.log"
say ""
say "$failed checks failed"
[ $failed -eq 0 ]
