#!/usr/bin/env bash
# Every table and figure of experiments/paper at toy size: check_paper.sh PROGRAM [ID...]. Seconds each; that
# the scripts work, not what comes out. What needs files that are not there is said.
set -eu
command -v python3 >/dev/null || { echo "check_paper: no python3"; exit 77; }
export EEP
EEP=$(realpath "${1:-build/eep}")
[ $# -gt 0 ] && shift
cd "$(dirname "$0")/../.."
reproduce=experiments/paper/reproduce.sh
data=${EEP_SHARED_DATA:-../shared/data}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
fail() {
  cat "$out/log"
  echo "check_paper: $1"
  exit 1
}
# T1 first: others take what it has run.
ids=${*:-$("$reproduce" | awk '{ print $1 }')}
for id in $ids; do
  code=0
  "$reproduce" "$id" --miniature --toy --out "$out/$id" >"$out/log" 2>&1 || code=$?
  case $id in F1 | F2 | F9 | F1[01])
    [ $code -eq 66 ] && [ "$(wc -l <"$out/log")" -eq 1 ] || fail "$id does not say what it is"
    continue
    ;;
  esac
  [ $code -eq 0 ] || fail "$id failed with $code"
  [ -s "$out/$id/table.md" ] && [ -s "$out/$id/table.csv" ] || fail "$id has no table"
done
# Again: it is done, and says the same.
for id in $ids; do
  case $id in T1 | T10 | F5) ;; *) continue ;; esac
  cp "$out/$id/table.csv" "$out/before"
  "$reproduce" "$id" --miniature --toy --out "$out/$id" >"$out/log" 2>&1 || fail "$id does not resume"
  cmp "$out/before" "$out/$id/table.csv" >"$out/log" || fail "$id says another thing the second time"
done
[ $# -eq 0 ] || exit 0

# Of the real tables: what is missing is one line, with where it comes from.
missing() {
  local words=$1 code=0
  shift
  "$reproduce" "$@" --out "$out/real" 2>"$out/log" >&2 || code=$?
  [ $code -eq 66 ] && grep -q -- "$words" "$out/log" || fail "$*: a missing part is not told"
}
for id in $ids; do
  case $id in
    F1 | F2 | F9 | F1[01]) continue ;;
    F8) missing --coefficients "$id" ;;
    *) missing --model "$id" ;;
  esac
done
missing 'eep task import copa' T1 --model experiments/demo/mixtral --data "$out"
if [ -d "$data/eep_coefficients" ]; then
  "$reproduce" F8 --coefficients "$data/eep_coefficients" --out "$out/F8-real" >"$out/log" 2>&1 ||
    fail "F8 of the published files failed"
  [ -s "$out/F8-real/cb_budget_4.svg" ] || fail "F8 has no heat map"
else
  echo "check_paper: not tried, $data/eep_coefficients is not there: F8 of the published files"
fi
echo "check_paper: ok"
