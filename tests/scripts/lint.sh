#!/usr/bin/env bash
# Every check of the sources that needs no build.
set -u
here=$(dirname "$0")
failed=0
for check in format layering file_size wording; do
  "$here/$check.sh" || { [ $? -eq 77 ] || failed=$((failed + 1)); }
done
. "$here/sources.sh"
# Tables and results that a program wrote are as wide as they are.
sources '*.md' '*.h' '*.cpp' '*.cu' '*.cmake' 'CMakeLists.txt' '*.sh' '*.bash' '*.py' Makefile .ci/run |
  grep -vE '^(bench/results|experiments/paper/miniature)/[^/]+/' | tr '\n' '\0' |
  xargs -0 python3 tests/scripts/width.py ||
  failed=$((failed + 1))
while IFS= read -r script; do
  bash -n "$script" || failed=$((failed + 1))
done < <(sources '*.sh' '.ci/run')
[ $failed -eq 0 ] && echo "lint: ok" || { echo "lint: $failed checks failed"; exit 1; }
