#!/usr/bin/env bash
# Configures a preset and builds targets: build.sh PRESET DIRECTORY [TARGET...]. Says what it does on stderr,
# shows compiler output only when something fails; on a terminal a progress line.
set -u
preset=$1 directory=$2
shift 2
jobs=$(nproc 2>/dev/null || echo 2)
unset MAKEFLAGS MFLAGS MAKELEVEL

if [ ! -f "$directory/CMakeCache.txt" ] && command -v ninja >/dev/null 2>&1; then export \
  CMAKE_GENERATOR=Ninja; fi
mkdir -p "$directory" || exit 74
log=$directory/configure.log
[ -f "$directory/CMakeCache.txt" ] || echo "eep: configuring $directory" >&2
if ! cmake --preset "$preset" >"$log" 2>&1; then
  cat "$log" >&2
  echo "eep: configuring $directory failed" >&2
  exit 1
fi

targets=()
[ $# -gt 0 ] && targets=(--target "$@")
quiet=()
if [ ! -t 2 ]; then
  quiet=(-- --silent)
  grep -q '^CMAKE_GENERATOR:INTERNAL=Ninja' "$directory/CMakeCache.txt" && quiet=(-- --quiet)
fi
echo "eep: building ${*:-everything} in $directory on $jobs cores" >&2
exec cmake --build "$directory" --parallel "$jobs" "${targets[@]}" "${quiet[@]}" >&2
