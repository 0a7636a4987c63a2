#!/usr/bin/env bash
# Real benchmarks on the model that run.sh makes: benchmarks.sh EEP DATA [DIRECTORY] [eep's options...]. DATA
# holds the makers' files, in folders superglue/NAME, mmlu, arc, openbookqa; what is not there is said and
# left out. Imports them, runs benchmarks.yaml and mmlu.yaml, and ends with a table that has the best constant
# answer beside the methods.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ $# -ge 2 ] || { echo "usage: benchmarks.sh EEP DATA [DIRECTORY] [eep's options...]" >&2; exit 2; }
eep=$(realpath "$1")
data=$(realpath "$2")
work=${3:-runs/smollm2}
shift $(($# < 3 ? $# : 3))
[ -f "$work/model/config.json" ] ||
  { echo "benchmarks: no $work/model: make demo-smollm2 makes it" >&2; exit 66; }
work=$(realpath "$work")
export EEP_DATA=$work/benchmarks
mkdir -p "$EEP_DATA"

tasks=
import() {  # NAME, options of import, its files
  local name=$1 file
  shift
  for file in "$@"; do
    case $file in -* | *=[0-9]*) continue ;; esac
    [ -e "${file#*=}" ] || { echo "benchmarks: left out: $name, $file is not there" >&2; return 0; }
  done
  [ -f "$EEP_DATA/$name/test.jsonl" ] || "$eep" task import "$name" "$@" --out "$EEP_DATA" >&2
  tasks="$tasks${tasks:+, }$name"
}
for name in wic:WiC wsc:WSC rte:RTE cb:CB copa:COPA multirc:MultiRC; do
  import "${name%:*}" "$data/superglue/${name#*:}/train.jsonl" "$data/superglue/${name#*:}/val.jsonl"
done
# Of BoolQ one file: its parts by hash.
import boolq "$data/superglue/BoolQ/val.jsonl" --hash train=30,dev=20,test=50
import arc_challenge --hash train=30,dev=20,test=50 "$data/arc/ARC-Challenge-Test.jsonl"
import openbookqa "$data/openbookqa/train.tsv" "$data/openbookqa/dev.tsv" "$data/openbookqa/test.tsv"
[ -n "$tasks" ] || { echo "benchmarks: none of the files is in $data" >&2; exit 66; }
"$eep" run "$here/benchmarks.yaml" --output "$work/runs/benchmarks" --resume-if-there --set \
  "model.path=$work/model" \
  --set "sweep.task.name=[$tasks]" "$@"
if [ -d "$data/mmlu" ]; then
  [ -f "$EEP_DATA/mmlu_paper/test.jsonl" ] || "$eep" task import mmlu_paper "$data/mmlu" --out "$EEP_DATA" >&2
  "$eep" run "$here/mmlu.yaml" --output "$work/runs/mmlu" --resume-if-there --set \
    "model.path=$work/model" "$@"
else
  echo "benchmarks: left out: mmlu_paper, $data/mmlu is not there" >&2
fi
python3 "$here/constant.py" "$EEP_DATA" "$work/runs" >"$work/benchmarks.md"
cat "$work/benchmarks.md"
