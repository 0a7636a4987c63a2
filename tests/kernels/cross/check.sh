#!/bin/bash
# check.sh NATIVE_PROGRAM: builds the same ops for aarch64 (NEON, statically dispatched, so without Highway's library),
# runs them under user-mode emulation, and compares the hashes of all targets of both machines.
# Exit status 77: cross-compiler or emulator not installed.
set -euo pipefail
native=$1
root=$(cd "$(dirname "$0")/../../.." && pwd)
for tool in aarch64-linux-gnu-g++ qemu-aarch64; do
  if ! command -v $tool > /dev/null; then
    echo "skipped: $tool is not installed (Debian: g++-aarch64-linux-gnu, qemu-user)"
    exit 77
  fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# -idirafter: Highway's headers lie among this machine's own, which must not hide the cross-compiler's.
compile="$(command -v ccache || true) aarch64-linux-gnu-g++ -std=c++20 -O2 -ffp-contract=off -fopenmp
  -DHWY_COMPILE_ONLY_STATIC -I$root -idirafter /usr/include"
cd "$root"
printf '%s\n' kernels/*.cpp tests/kernels/cross/main.cpp |
  xargs -P 2 -I{} sh -c "$(echo $compile) -c {} -o $work/\$(echo {} | tr / _).o"
aarch64-linux-gnu-g++ -fopenmp "$work"/*.o -o "$work/ops"

"$native" > "$work/hashes"
qemu-aarch64 -L /usr/aarch64-linux-gnu "$work/ops" >> "$work/hashes"
sort -s -k1,1 "$work/hashes"
awk '{if ($1 in hash && hash[$1] != $2) {print "different bits: " $1; bad = 1} hash[$1] = $2; seen[$1 " " $3] = 1; n[$3]++}
     END {if (!n["neon"] || !n["plain"]) {print "a target is missing"; bad = 1}; exit bad}' "$work/hashes"
