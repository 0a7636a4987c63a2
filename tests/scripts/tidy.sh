#!/usr/bin/env bash
# clang-tidy (.clang-tidy) on the C++ files that differ from a commit. tidy.sh [BUILD] [COMMIT]: BUILD has
# compile_commands.json of a CPU build (build); COMMIT is HEAD~1 if not given. 77: no clang-tidy, or nothing
# to compare with.
set -u
. "$(dirname "$0")/sources.sh"
build=${1:-build} commit=${2:-HEAD~1}
tidy=$(command -v clang-tidy || command -v clang-tidy-14) ||
  { echo "tidy: clang-tidy is not installed"; exit 77; }
[ -f "$build/compile_commands.json" ] ||
  { echo "tidy: $build/compile_commands.json is not there: make build first"; exit 77; }
git rev-parse --verify -q "$commit^{commit}" >/dev/null ||
  { echo "tidy: nothing to compare with ($commit)"; exit 77; }
files=()
while IFS= read -r file; do
  [ -f "$file" ] && grep -q "/$file\"" "$build/compile_commands.json" && files+=("$file")
done < <(git diff --name-only "$commit" -- '*.cpp')
[ ${#files[@]} -gt 0 ] || { echo "tidy: ok, no file of the build differs from $commit"; exit 0; }
most=${EEP_TIDY_MOST:-1000}
[ ${#files[@]} -le "$most" ] ||
  { echo "tidy: ${#files[@]} files differ from $commit, more than $most: left out"; exit 77; }
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 1 "$tidy" --quiet -p "$build" \
  --extra-arg=-Wno-unknown-warning-option 2>/dev/null || { echo "tidy: see above"; exit 1; }
echo "tidy: ok, ${#files[@]} files"
