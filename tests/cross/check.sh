#!/bin/bash
# check.sh OPS SEARCH: builds the same two programs for aarch64 (NEON, statically dispatched, so without
# Highway's library), runs them under user-mode emulation, and compares the hashes of all targets of both
# machines. Exit status 77: cross-compiler or emulator not installed.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  if ! command -v $tool > /dev/null; then
    echo "skipped: $tool is not installed (Debian: g++-aarch64-linux-gnu, qemu-user)"
    exit 77
  fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# -idirafter: headers of libraries lie among this machine's own, which must not hide the cross-compiler's; the
# libraries themselves are used as headers alone. Sections: what names the GPU's kernels is dropped, and no
# program calls it.
compile="$(command -v ccache ||
  true) aarch64-linux-gnu-g++ -std=c++20 -O1 -ffp-contract=off -fopenmp -ffunction-sections -fdata-sections
  -DHWY_COMPILE_ONLY_STATIC -DXXH_INLINE_ALL -DFMT_HEADER_ONLY -I$root -idirafter /usr/include"
cd "$root"
printf '%s\n' kernels/*.cpp kernels/{common,cpu,gpu}/*.cpp engine/*.cpp es/*.cpp tests/cross/*.cpp |
  xargs -P 2 -I{} sh -c "$(echo $compile) -c {} -o $work/\$(echo {} | tr / _).o"
for program in ops search; do
  aarch64-linux-gnu-g++ -fopenmp -Wl,--gc-sections "$work"/{kernels,engine,es}_*.o \
    "$work/tests_cross_$program.cpp.o" \
    -o "$work/$program"
done

for program in "$@"; do "$program"; done > "$work/hashes"
for program in ops search; do qemu-aarch64 -L /usr/aarch64-linux-gnu "$work/$program"; done >> "$work/hashes"
sort -s -k1,1 "$work/hashes"
awk '{if ($1 in hash && hash[$1] != $2) {print "different bits: " $1; bad = 1}
  hash[$1] = $2; seen[$1 " " $3] = 1; n[$3]++}
     END {if (!n["neon"] || !n["plain"]) {print "a target is missing"; bad = 1}; exit bad}' "$work/hashes"
