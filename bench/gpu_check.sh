#!/usr/bin/env bash
# What a GPU machine confirms where the packages of the build are at hand too, in one command: configure,
# build, pack (gpu_bundle.sh), run (gpu_run.sh, and what comes after green), file (gpu_file.sh) under
# bench/results/<GPU name>/.
#
#   gpu_check.sh [BUILD] [--quick] [--results FOLDER] [--tiny] [--device cuda|simt]
#
# --quick: the first run alone. 77 without a GPU or nvcc, 1 if a step failed.
set -u -o pipefail
cd "$(dirname "$0")/.." || exit 1
build=build results=bench/results quick=0 device=cuda more=() bundle=()
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1 ;;
    --tiny) more+=(--tiny) ;;
    --results) results=${2:?}; shift ;;
    --device) device=${2:?}; shift ;;
    -*)
      usage="gpu_check.sh [BUILD] [--quick] [--results FOLDER] [--tiny] [--device cuda|simt]"
      echo "gpu_check: unknown option $1 (usage: $usage)"
      exit 2
      ;;
    *) build=$1 ;;
  esac
  shift
done
nvidia-smi -L >/dev/null 2>&1 || { echo "gpu_check: no GPU or driver here"; exit 77; }
command -v nvcc >/dev/null 2>&1 || PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null 2>&1 || { echo "gpu_check: nvcc is not installed"; exit 77; }
tests=tests_cuda
[ "$device" = simt ] && tests=tests_kernels bundle=(--simt)
cmake/build.sh release "$build" eep $tests bench_device bench_model || exit 1
scratch=$(mktemp -d) || exit 74
trap 'rm -rf "$scratch"' EXIT
bench/gpu_bundle.sh "${bundle[@]}" "$build" "$scratch/bundle.tgz" || exit 1
bench/gpu_run.sh "$scratch/bundle.tgz" "$scratch/first" 900 --device "$device" "${more[@]}" || exit 1
outputs=("$scratch/first")
if [ $quick -eq 0 ] && ! grep -q '"step":"tests:.*"rc":[^0]' "$scratch/first/steps.jsonl"; then
  bench/gpu_run.sh "$scratch/bundle.tgz" "$scratch/second" 900 --device "$device" "${more[@]}" --after green \
    || exit 1
  outputs+=("$scratch/second")
fi
bench/gpu_file.sh "${outputs[@]}" --results "$results" || exit 1
! grep -qhE '"rc":(-1|[1-9])' <(grep -hv '"rc":77' "$scratch"/*/steps.jsonl)
