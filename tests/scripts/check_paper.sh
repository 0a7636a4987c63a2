#!/usr/bin/env bash
# Every table and figure that the miniature has, at toy size: check_paper.sh PROGRAM. Seconds each; that the scripts work, not what
# comes out.
set -eu
export EEP
EEP=$(realpath "${1:-build/eep}")
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for id in T1 T3 T4 T7 T9 T10 T11 T13 F3 F5; do
  experiments/paper/reproduce.sh "$id" --miniature --toy --out "$out/$id" >"$out/log" 2>&1 || { cat "$out/log"; echo "check_paper: $id failed"; exit 1; }
  [ -s "$out/$id/table.md" ] && [ -s "$out/$id/table.csv" ] || { echo "check_paper: $id has no table"; exit 1; }
  # Again: it is done, and says the same.
  cp "$out/$id/table.csv" "$out/before"
  experiments/paper/reproduce.sh "$id" --miniature --toy --out "$out/$id" >"$out/log" 2>&1 || { cat "$out/log"; exit 1; }
  [ "$id" = F3 ] || cmp "$out/before" "$out/$id/table.csv"
done
code=0
experiments/paper/reproduce.sh T1 2>"$out/log" || code=$?
[ $code -eq 66 ] && grep -q -- --model "$out/log" || { echo "check_paper: a missing model is not told"; exit 1; }
echo "check_paper: ok"
