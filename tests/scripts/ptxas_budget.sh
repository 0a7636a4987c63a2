#!/usr/bin/env bash
# Registers, shared memory and spills of every kernel, as ptxas reports them, against bench/ptxas_budget.txt: none may
# spill, and none may need more than the budget says. ptxas_budget.sh [--update [JOBS]]; 77 without nvcc.
set -u
cd "$(dirname "$0")/../.." || exit 1
nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || { echo "ptxas_budget: nvcc is not installed"; exit 77; }
budget=bench/ptxas_budget.txt
[ -f "$budget" ] || [ "${1:-}" = --update ] || { echo "ptxas_budget: there is no $budget"; exit 77; }
scratch=$(mktemp -d) || exit 74
trap 'rm -rf "$scratch"' EXIT

# "sm kernel registers shared spilled", one line a kernel
measure() {
  local file=$1 sm=$2
  # shellcheck disable=SC2086
  "$nvcc" -std=c++20 -O3 -fmad=false --expt-relaxed-constexpr -I. -gencode "arch=compute_${sm},code=sm_${sm}" -Xptxas -v \
    -cubin -o "$scratch/out.cubin" "$file" 2>&1 | c++filt | awk -v sm="$sm" -v file="$(basename "$file" .cu)" '
    /Compiling entry function/ {
      name = $0
      sub(/^[^\047]*\047/, "", name)
      sub(/\047 for .*/, "", name)
      if (match(name, /_GLOBAL__N__[0-9a-f]*_[0-9]*_[a-z_0-9]*_cu_[0-9a-f]*::/)) name = substr(name, RSTART + RLENGTH)
      gsub(/eep::gpu_cuda::/, "", name)
      gsub(/\(anonymous namespace\)::/, "", name)
      gsub(/_GLOBAL__N__[0-9a-f]+_[0-9]+_[a-z_0-9]+_cu_[0-9a-f]+::/, "", name)
      sub(/\(.*/, "", name)
      gsub(/ /, "", name)
      sub(/^void/, "", name)
    }
    /bytes spill stores/ { spilled = $(NF - 7) + $(NF - 3) }
    /bytes stack frame/ { spilled = $5 + $9 }
    /Used [0-9]+ registers/ {
      shared = 0
      for (i = 1; i <= NF; ++i) {
        if ($i == "registers,") registers = $(i - 1)
        if ($i == "smem" || $i == "smem,") shared = $(i - 2)
      }
      print "sm_" sm, file ":" name, registers, shared, spilled
    }'
}

for sm in 80 90a; do
  for file in kernels/*.cu; do
    grep -q __global__ "$file" && measure "$file" "$sm"
  done
done | sort >"$scratch/measured"
[ -s "$scratch/measured" ] || { echo "ptxas_budget: nothing was measured"; exit 1; }

if [ "${1:-}" = --update ]; then
  { echo "# target, kernel, registers, static shared bytes, spilled bytes: tests/scripts/ptxas_budget.sh --update";
    cat "$scratch/measured"; } >"$budget"
  echo "ptxas_budget: wrote $(wc -l <"$scratch/measured") kernels"
  exit 0
fi

awk '
  FNR == NR { if ($1 != "#") { registers[$1 " " $2] = $3; shared[$1 " " $2] = $4; spilled[$1 " " $2] = $5 }; next }
  {
    key = $1 " " $2
    if (!(key in registers)) { print "ptxas_budget: " key " is not in the budget"; bad = 1; next }
    if ($3 > registers[key]) { print "ptxas_budget: " key ": " $3 " registers, " registers[key] " in the budget"; bad = 1 }
    if ($4 > shared[key]) { print "ptxas_budget: " key ": " $4 " bytes of shared memory, " shared[key] " in the budget"; bad = 1 }
    if ($5 > 0) { print "ptxas_budget: " key ": spills " $5 " bytes"; bad = 1 }
  }
  END { exit bad }' "$budget" "$scratch/measured" || exit 1
echo "ptxas_budget: $(wc -l <"$scratch/measured") kernels within the budget, none spills"
