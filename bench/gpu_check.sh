#!/usr/bin/env bash
# What a GPU machine confirms, in one command of about ten minutes: build, the kernels' cases natively, compute-sanitizer,
# the engine against the CPU, B1 to B9 with ceilings of the same run, comparison programs. Results go to
# bench/results/<GPU name>/. gpu_check.sh [BUILD] [--quick: no benchmarks]
# 77 without a GPU or nvcc, 1 if a check failed.
set -u
cd "$(dirname "$0")/.." || exit 1
build=build quick=0
for argument in "$@"; do
  case $argument in
    --quick) quick=1 ;;
    -*) echo "gpu_check: unknown option $argument (usage: gpu_check.sh [BUILD] [--quick])"; exit 2 ;;
    *) build=$argument ;;
  esac
done
nvidia-smi -L >/dev/null 2>&1 || { echo "gpu_check: no GPU or driver here"; exit 77; }
command -v nvcc >/dev/null 2>&1 || PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null 2>&1 || { echo "gpu_check: nvcc is not installed"; exit 77; }
name=$(nvidia-smi --query-gpu=name --format=csv,noheader | head -n 1)
results=bench/results/${name// /_}
mkdir -p "$results" || exit 74
report=$results/gpu_check.md
log=$(mktemp) || exit 74
trap 'rm -f "$log"' EXIT
failed=0

say() { printf '%s\n' "$*" | tee -a "$report"; }
# check SECONDS NAME COMMAND...: a failure is remembered, and its last lines go to the report.
check() {
  local limit=$1 what=$2 begin status
  shift 2
  begin=$(date +%s)
  timeout "$limit" "$@" >"$log" 2>&1
  status=$?
  if [ $status -eq 0 ]; then
    say "- $what: ok ($(($(date +%s) - begin)) s)"
  else
    say "- $what: FAILED ($status)"
    tail -n 20 "$log" | sed 's/^/    /' | tee -a "$report"
    failed=$((failed + 1))
  fi
  return $status
}

: >"$report"
say "# $name"
say ""
say "driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -n 1), $(nvcc --version | tail -n 2 | head -n 1), commit $(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
say "clocks: $(nvidia-smi --query-gpu=clocks.sm,clocks.max.sm,clocks.mem,power.limit --format=csv,noheader | head -n 1)"
say ""

# ---- does it work ----
check 300 "configure" cmake --preset release -B "$build" -DEEP_CUDA=ON
check 1200 "build" cmake --build "$build" --parallel --target eep tests_cuda bench_device bench_model || exit 1
[ -x "$build/tests/tests_cuda" ] || { say "- tests_cuda: not built, the build found no nvcc"; exit 1; }
check 300 "kernels against double precision, cuRAND, CUB and cuBLAS" "$build/tests/tests_cuda"
check 300 "the same again, in another order" "$build/tests/tests_cuda" --order-by=rand --rand-seed=7
if command -v compute-sanitizer >/dev/null 2>&1; then
  for tool in memcheck racecheck initcheck synccheck; do
    # initcheck would report the toolkit's own sort; the others take every case
    left_out=()
    [ $tool = initcheck ] && left_out=(--test-case-exclude='gpu twins*')
    check 300 "compute-sanitizer $tool" compute-sanitizer --tool "$tool" --error-exitcode 9 "$build/tests/tests_cuda" "${left_out[@]}"
  done
else
  say "- compute-sanitizer: not installed"
fi

# What says the same on the GPU and the CPU: same MODEL.
# shellcheck disable=SC2016
same='gpu=$("$0" generate "$1" --ids "1 5 9 12 7 3" --max-new 8 --device cuda) &&
  cpu=$("$0" generate "$1" --ids "1 5 9 12 7 3" --max-new 8 --device cpu) && echo "$gpu / $cpu" && [ "$gpu" = "$cpu" ]'
for model in mixtral qwen; do
  check 60 "demo model $model says the same on the GPU and the CPU" bash -c "$same" "$build/eep" "experiments/demo/$model"
done
runs=$(mktemp -d) || exit 74
trap 'rm -rf "$log" "$runs"' EXIT
archive() { find "$runs/$1" -name archive.jsonl | head -n 1; }
for again in 1 2; do
  check 120 "a search on the GPU, run $again" "$build/eep" run experiments/demo/demo.yaml --set 'sweep.task.name=[sum]' \
    --set 'sweep.plan.experts=[4]' --device cuda --output "$runs/$again"
done
check 10 "both runs have the same archive" cmp "$(archive 1)" "$(archive 2)"

# ---- with wgmma, where the device has it ----
if [ "$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1)" = 9.0 ]; then
  export EEP_CUDA_UNCONFIRMED=wgmma
  check 60 "wgmma: demo model says the same as the CPU" bash -c "$same" "$build/eep" experiments/demo/mixtral
  unset EEP_CUDA_UNCONFIRMED
fi

# ---- how fast is it ----
# model NAME CONFIG OPTIONS...: one JSON line of bench_model into models.jsonl.
model() {
  local what=$1 config=$2
  shift 2
  check 200 "$what" "$build/bench_model" "bench/configs/$config.json" --device cuda "$@" &&
    grep '^{' "$log" >>"$results/models.jsonl"
}
if [ $quick -eq 0 ]; then
  check 300 "B1 to B6" "$build/bench_device" --device cuda --csv "$results/ops.csv" --markdown "$results/ops.md"
  if [ "$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1)" = 9.0 ]; then
    check 200 "B3 with wgmma" env EEP_CUDA_UNCONFIRMED=wgmma "$build/bench_device" --device cuda --filter B3 \
      --csv "$results/ops_wgmma.csv" --markdown "$results/ops_wgmma.md"
  fi
  : >"$results/models.jsonl"
  for candidates in 1 4 16 64; do
    model "B7: a layer of Mixtral-8x7B, $candidates candidates" mixtral-8x7b --layers 1 --candidates $candidates --prompts 16
  done
  model "B7: 8 layers of Mixtral-8x7B, merging" mixtral-8x7b --layers 8 --candidates 4 --phase merge --memory 70G
  model "B7: 8 layers of Qwen3-30B-A3B, merging" qwen3-30b-a3b --layers 8 --candidates 4 --phase merge --memory 70G
  model "B8: Qwen3-30B-A3B, all layers, merging, 4 candidates" qwen3-30b-a3b --candidates 4 --phase merge --memory 76G --target 88000
  model "B8: Mixtral-8x7B, all layers, streamed from pinned memory where the device is smaller, 4 candidates" mixtral-8x7b \
    --candidates 4 --phase prune --memory 76G --target 26000
  model "B8: Mixtral-8x7B, 16 layers, 4 candidates" mixtral-8x7b --layers 16 --candidates 4 --phase prune --memory 76G
  for candidates in 1 4 16; do
    model "B9: decode steps of $((candidates * 64)) sequences, one-hot" qwen3-30b-a3b --layers 4 --candidates $candidates --tokens 128 --decode 4
    model "B9: the same, materialised" qwen3-30b-a3b --layers 4 --candidates $candidates --tokens 128 --decode 4 --phase merge
  done
  python=${EEP_PYTHON:-python3}
  if "$python" -c 'import torch; raise SystemExit(not torch.cuda.is_available())' >/dev/null 2>&1; then
    check 200 "other programs at the same shapes" "$python" bench/peers/gpu_moe.py --csv "$results/peers.csv" &&
      cp "$log" "$results/peers.md"
  else
    say "- other programs: $python has no torch that sees the GPU (EEP_PYTHON names another)"
  fi
fi
say ""
say "$failed checks failed"
[ $failed -eq 0 ]
