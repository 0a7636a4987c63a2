#!/usr/bin/env bash
# Line coverage of the rooms by their tests: coverage.sh BUILD, a build of the preset `coverage` whose tests
# have run. Prints a row a room and the files with most lines that no test reached; BUILD/coverage.txt has a
# line a file.
set -eu -o pipefail
build=$(cd "$1" && pwd)
cd "$(dirname "$0")/../.."
find "$build" -name '*.gcda' -print0 | xargs -0 -P "$(nproc)" -n 8 gcov --json-format --stdout 2>/dev/null |
  python3 tests/scripts/coverage.py "$PWD" >"$build/coverage.txt"
awk -F '\t' '{ split($1, part, "/"); room = part[1]; lines[room] += $2; missed[room] += $3 }
  END {
    for (room in lines)
      printf "%-12s %6d lines  %5.1f %% reached\n", room, lines[room], 100 * (1 - missed[room] / lines[room])
  }' \
  "$build/coverage.txt" | sort
echo
sort -t "$(printf '\t')" -k3,3nr "$build/coverage.txt" |
  awk -F '\t' 'NR <= 15 { printf "%-48s %5d of %5d lines not reached\n", $1, $3, $2 }'
