#!/usr/bin/env bash
# Packs what gpu_run.sh needs on a machine that has a GPU but none of the project's packages: programs without
# symbols, the libraries they load that neither glibc nor gcc brings, demo models, configurations of released
# models, scripts.
#
#   gpu_bundle.sh [--simt] [BUILD] OUT.tgz
#
# BUILD (build): has eep, bench_device, bench_model and tests/tests_cuda (cmake --build build --target eep
# tests_cuda bench_device bench_model, with nvcc). --simt: tests/tests_kernels instead of tests_cuda, for the
# rehearsal. Programs look for libraries in lib/ beside them (run path $ORIGIN/lib). Says which glibc and
# libstdc++ they need; above 40 MB it fails.
set -eu -o pipefail
tests=tests_cuda
[ "${1:-}" = --simt ] && { tests=tests_kernels; shift; }
[ $# -eq 1 ] || [ $# -eq 2 ] || { echo "usage: gpu_bundle.sh [--simt] [BUILD] OUT.tgz" >&2; exit 2; }
out=$(cd "$(dirname "${*: -1}")" && pwd)/$(basename "${*: -1}")
[ $# -eq 2 ] && build=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
build=${build:-$PWD/build}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
folder=$scratch/bundle
mkdir -p "$folder/lib" "$folder/bench/peers" "$folder/experiments/demo"

programs=()
for program in tests/$tests eep bench_device bench_model; do
  [ -x "$build/$program" ] || { echo "gpu_bundle: $build/$program is not built" >&2; exit 1; }
  strip -o "$folder/$(basename "$program")" "$build/$program"
  programs+=("$folder/$(basename "$program")")
done
# What glibc and gcc bring stays behind, the rest of what the loader finds comes along.
ldd "${programs[@]}" |
  awk '$2 == "=>" && $3 ~ /^\// { print $3 }
    $3 == "not" { print "gpu_bundle: " $1 " is not found" >"/dev/stderr"; exit 1 }' |
  sort -u | grep -vE '/(lib(c|m|dl|rt|pthread|gcc_s|stdc\+\+)|ld-linux[^/]*)\.so[^/]*$' \
  >"$scratch/libraries" || true
while IFS= read -r library; do cp -L "$library" "$folder/lib/"; done <"$scratch/libraries"

cp -r bench/configs "$folder/bench/"
cp bench/gpu_run.sh bench/gpu_steps.sh "$folder/bench/"
cp bench/peers/gpu_moe.py "$folder/bench/peers/"
cp -r experiments/tasks "$folder/experiments/"
cp -r experiments/demo/demo.yaml experiments/demo/mixtral experiments/demo/qwen experiments/demo/data \
  "$folder/experiments/demo/"

# needed SYMBOLS: the newest version that any program or library asks for
needed() {
  objdump -T "${programs[@]}" "$folder"/lib/* | grep -oE "\(?$1_[0-9.]+\)?" | tr -d '()' | sort -uV |
    tail -n 1
}
{
  echo "commit $(git describe --always --dirty 2>/dev/null ||
    echo unknown), $(wc -l <"$scratch/libraries") libraries beside the programs"
  echo "needs $(needed GLIBC), $(needed GLIBCXX)"
} >"$folder/BUNDLE"
tar -C "$folder" -czf "$out" .
bytes=$(stat -c %s "$out")
cat "$folder/BUNDLE"
echo "$out: $((bytes / 1000000)).$((bytes / 100000 % 10)) MB"
[ "$bytes" -le 40000000 ] || { echo "gpu_bundle: more than 40 MB" >&2; exit 1; }
