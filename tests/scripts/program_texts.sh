#!/usr/bin/env bash
# The texts against the program: program_texts.sh PROGRAM. The man page and the completion name every command,
# every option and every value that the help names; the documents every row of the program's tables.
set -u
. "$(dirname "$0")/sources.sh"
program=${1:-build/eep}

failures=0
# A dash is written \- in the man page, which marks words with .BR and the like.
manual=$(sed 's/\\-/-/g' man/eep.1)
lacks() { echo "$1 lacks $2 ($3)"; failures=$((failures + 1)); }
# demand WHERE WORD: the word stands in the man page and in the completion.
demand() {
  grep -qF -- "$2" <<<"$manual" || lacks man/eep.1 "$2" "$1"
  grep -qF -- "$2" man/eep.bash || lacks man/eep.bash "$2" "$1"
}
# The words that the completion offers behind an option.
offered() { awk -v option="$1)" '$1 == option {on = 1} on {print} on && /;;/ {exit}' man/eep.bash |
  tr '"\\' '  '; }
# values WHERE HELP: of options that take one of a few words, as in "--parity TEXT:{none,hf,eep}".
values() {
  local option list value
  while read -r option list; do
    for value in ${list//,/ }; do
      grep -qwF -- "$value" <<<"$manual" || lacks man/eep.1 "$option $value" "$1"
      [ "$value" = "${value%N}" ] || continue  # cuda:N stands for many
      offered "$option" | grep -qE -- "(^| )$value( |$)" || lacks man/eep.bash "$option $value" "$1"
    done
  done < <(grep -oE -- '--[a-z-]+ TEXT:\{[^}]*\}' <<<"$2" | sed 's/TEXT:{\(.*\)}/\1/')
}
help=$("$program" --help 2>&1) || { echo "$program --help failed"; exit 1; }
commands=$(awk '/^[A-Za-z]*[Cc]ommands:/ {on = 1; next} /^[^ ]/ {on = 0} on && /^  [a-z]/ {print $1}' \
  <<<"$help")
[ -n "$commands" ] || { echo "$program --help lists no commands"; exit 1; }
for option in $(grep -oE -- '--[a-z][a-z-]+' <<<"$help" | sort -u); do
  demand "eep" "$option"
done
values eep "$help"
for command in $commands; do
  demand help "$command"
  text=$("$program" "$command" --help 2>&1)
  while read -r option; do
    demand "eep $command" "$option"
  done < <(grep -oE -- '--[a-z][a-z-]+' <<<"$text" | sort -u)
  values "eep $command" "$text"
done

# rows TABLE FILE: every row of the table is named there, in the form `row`.
rows() {
  local row list
  list=$("$program" list "$1" | awk '{print $1}')
  [ -n "$list" ] || lacks "eep list" "$1" tables
  for row in $list; do
    grep -qE "\`$row[\`(]" "$2" || lacks "$2" "$row" "eep list $1"
  done
}
# Values that only the program knows are asked of it: completed TABLE WORDS...
completed() {
  local table=$1 wanted got
  shift
  wanted=$("$program" list "$table" | awk '{print $1}' | sort)
  got=$(bash -c '. man/eep.bash
    COMP_WORDS=("$@" "")
    COMP_CWORD=$#
    _eep
    printf "%s\n" "${COMPREPLY[@]%=}"' bash "$program" "$@" | sort)
  [ -n "$wanted" ] && [ -z "$(comm -23 <(echo "$wanted") <(echo "$got"))" ] ||
    lacks man/eep.bash "rows of eep list $table" "$* <TAB>"
}
completed tasks eval model --task
completed targets run --cpu-target
completed fields run demo.yaml --set
completed criteria select scores.json --method
completed allocations select scores.json --allocation

rows algorithms docs/experiments.md
rows criteria docs/method.md
rows skipping docs/experiments.md
rows metrics docs/experiments.md
rows extraction docs/experiments.md
"$program" list schema | cmp -s - share/experiment.schema.json ||
  lacks share/experiment.schema.json "a field" "make schema"
for row in $("$program" list criteria | awk '{print $1}') $("$program" list algorithms | awk '{print $1}'); do
  grep -qF "\"$row\"" tests/fuzz/experiment.dict || lacks tests/fuzz/experiment.dict "$row" "eep list"
done
for row in $("$program" list metrics | awk '{print $1}') $("$program" list extraction | awk '{print $1}'); do
  grep -qF "\"$row" tests/fuzz/task.dict || lacks tests/fuzz/task.dict "$row" "eep list"
done
if command -v python3 >/dev/null 2>&1; then
  python3 tests/scripts/message_options.py "$program" || failures=$((failures + 1))
fi
[ $failures -eq 0 ] && echo "program_texts: ok"
exit $((failures > 0))
