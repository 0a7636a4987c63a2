#!/usr/bin/env bash
# Every check of the sources that needs no build.
set -u
here=$(dirname "$0")
failed=0
for check in format layering file_size wording; do
  "$here/$check.sh" || { [ $? -eq 77 ] || failed=$((failed + 1)); }
done
. "$here/sources.sh"
while IFS= read -r script; do
  bash -n "$script" || failed=$((failed + 1))
done < <(sources '*.sh' '.ci/run')
[ $failed -eq 0 ] && echo "lint: ok" || { echo "lint: $failed checks failed"; exit 1; }
