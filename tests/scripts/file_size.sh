#!/usr/bin/env bash
# One file, one job: no source above 600 lines, no committed file above 12 MB.
set -u
. "$(dirname "$0")/sources.sh"

failures=0
while IFS= read -r file; do
  lines=$(wc -l <"$file")
  if [ "$lines" -gt 600 ]; then
    echo "$file: $lines lines (at most 600)"
    failures=$((failures + 1))
  fi
done < <(sources '*.h' '*.cpp' '*.cu' '*.cuh' '*.py' '*.sh' '*.cmake' 'CMakeLists.txt' 'Makefile')
while IFS= read -r file; do
  bytes=$(stat -c %s "$file")
  if [ "$bytes" -gt 12582912 ]; then
    echo "$file: $bytes bytes (at most 12 MB)"
    failures=$((failures + 1))
  fi
done < <(sources '*')
[ $failures -eq 0 ] || { echo "file_size: $failures files are too large"; exit 1; }
echo "file_size: ok"
