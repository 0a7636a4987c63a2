#!/usr/bin/env bash
# Texts hold nothing of the machine they were written on and nothing left open.
set -u
. "$(dirname "$0")/sources.sh"

failures=0
# complain NAME REGEX: every line that matches, this script apart.
complain() {
  local found
  found=$(sources '*.h' '*.cpp' '*.cu' '*.cuh' '*.py' '*.sh' '*.md' '*.cmake' 'CMakeLists.txt' 'Makefile' \
    '*.json' '*.yaml' \
    '*.1' '.ci/run' | grep -vxE 'tests/scripts/wording\.sh|.*tokenizer\.json' | tr '\n' '\0' |
    xargs -0 grep -nIE "$2" | cut -c1-200)
  if [ -n "$found" ]; then
    printf '%s: %s\n' "$1" "$found"
    failures=$((failures + 1))
  fi
}
complain 'path of one machine' '(^|[^[:alnum:]_.])/(work|tmp|root|home|farm)/[[:alnum:]]'
complain 'left open' '\b(TODO|FIXME|XXX|HACK)\b'
complain 'number of a ticket' '\b[Ii]ssue #?[0-9]'
complain 'blanks at the end of a line' '[[:graph:]][[:blank:]]+$'
complain 'conflict marker' '^(<<<<<<<|>>>>>>>) '
[ $failures -eq 0 ] || { echo "wording: $failures kinds of text to mend"; exit 1; }
echo "wording: ok"
