#!/usr/bin/env bash
# The man page and the completion name every command and every option that the program's help names:
# program_texts.sh PROGRAM.
set -u
. "$(dirname "$0")/sources.sh"
program=${1:-build/eep}

failures=0
# demand WHERE WORD: the word stands in the man page (where a dash is written \-) and in the completion.
demand() {
  sed 's/\\-/-/g' man/eep.1 | grep -qF -- "$2" || { echo "man/eep.1 lacks $2 ($1)"; failures=$((failures + 1)); }
  grep -qF -- "$2" man/eep.bash || { echo "man/eep.bash lacks $2 ($1)"; failures=$((failures + 1)); }
}
help=$("$program" --help 2>&1) || { echo "$program --help failed"; exit 1; }
commands=$(printf '%s\n' "$help" | awk '/^[A-Za-z]*[Cc]ommands:/ {on = 1; next} /^[^ ]/ {on = 0} on && /^  [a-z]/ {print $1}')
[ -n "$commands" ] || { echo "$program --help lists no commands"; exit 1; }
for option in $(printf '%s\n' "$help" | grep -oE -- '--[a-z][a-z-]+' | sort -u); do
  demand "eep" "$option"
done
for command in $commands; do
  demand help "$command"
  while read -r option; do
    demand "eep $command" "$option"
  done < <("$program" "$command" --help 2>&1 | grep -oE -- '--[a-z][a-z-]+' | sort -u)
done
[ $failures -eq 0 ] && echo "program_texts: ok"
exit $((failures > 0))
