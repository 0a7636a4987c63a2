#!/usr/bin/env bash
# Sources are as clang-format (14) writes them; --fix rewrites them.
set -u
. "$(dirname "$0")/sources.sh"

formatter=
for name in clang-format-14 clang-format; do
  if command -v "$name" >/dev/null 2>&1 && "$name" --version | grep -q 'version 14\.'; then formatter=$name &&
    break; fi
done
if [ -z "$formatter" ]; then
  echo "format: clang-format 14 is not installed"
  exit 77
fi
if [ "${1:-}" = --fix ]; then
  sources '*.h' '*.cpp' '*.cu' '*.cuh' | tr '\n' '\0' | xargs -0 -r "$formatter" -i
  exit
fi
if complaints=$(sources '*.h' '*.cpp' '*.cu' '*.cuh' | tr '\n' '\0' |
  xargs -0 -r "$formatter" --dry-run -Werror 2>&1); then
  echo "format: ok"
else
  printf '%s\n' "$complaints" | grep -E 'error:' | head -n 40
  echo "format: run make format"
  exit 1
fi
