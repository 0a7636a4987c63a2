#!/usr/bin/env bash
# What a machine with a GPU, the driver, glibc and libstdc++ confirms, in the order of its value and within a
# total of SECONDS: environment, correctness, speed, sanitizers, profiles.
#
#   gpu_run.sh BUNDLE OUTPUT SECONDS [--after green | --after red --case FILTER] [--tiny] [--device cuda|simt]
#
# BUNDLE: of gpu_bundle.sh, the archive or its folder. OUTPUT: a folder that gets at most eight files;
# steps.jsonl has a line a step, written before the next one begins. --after: the run that follows one in
# which all was well, or in which the cases of FILTER failed. --tiny --device simt: the rehearsal, on any
# machine. Exit code 0, whatever failed; 2 for a wrong call.
set -u
here=$(cd "$(dirname "$0")" && pwd)
usage() {
  local options="[--after green | --after red --case FILTER] [--tiny] [--device cuda|simt]"
  echo "usage: gpu_run.sh BUNDLE OUTPUT SECONDS $options" >&2
  exit 2
}
export BUNDLE OUTPUT SCRATCH DEVICE=cuda TINY=0
after='' failing='gpu *' positional=()
while [ $# -gt 0 ]; do
  case $1 in
    --after | --case | --device)
      [ $# -ge 2 ] || usage
      case $1 in --after) after=$2 ;; --case) failing=$2 ;; *) DEVICE=$2 ;; esac
      shift ;;
    --tiny) TINY=1 ;;
    -*) usage ;;
    *) positional+=("$1") ;;
  esac
  shift
done
[ ${#positional[@]} -eq 3 ] && [[ ${positional[2]} =~ ^[0-9]+$ ]] && [[ $DEVICE =~ ^(cuda|simt)$ ]] &&
  [[ $after =~ ^(green|red|)$ ]] || usage
deadline=$(($(date +%s) + positional[2]))
until=$deadline
mkdir -p "${positional[1]}" && OUTPUT=$(cd "${positional[1]}" && pwd) || exit 2
SCRATCH=$(mktemp -d) || exit 2
trap 'rm -rf "$SCRATCH"' EXIT
BUNDLE=${positional[0]}
if [ -f "$BUNDLE" ]; then
  mkdir "$SCRATCH/bundle" && tar -xzf "$BUNDLE" -C "$SCRATCH/bundle" && BUNDLE=$SCRATCH/bundle ||
    { echo "gpu_run: cannot unpack $BUNDLE"; exit 2; }
fi
BUNDLE=$(cd "$BUNDLE" && pwd) && [ -x "$BUNDLE/eep" ] || { echo "gpu_run: $BUNDLE holds no bundle"; exit 2; }
command -v nvcc >/dev/null 2>&1 || PATH=$PATH:/usr/local/cuda/bin
python=${EEP_PYTHON:-python3}
[ $DEVICE = simt ] && export OMP_WAIT_POLICY=passive  # the host executor beside other tests

patience=1  # the host executor shares its machine with other tests
[ $DEVICE = simt ] && patience=5
summary=() answers=1 asking=0 wgmma=0
now() { local t=${EPOCHREALTIME//[.,]/}; echo $((t / 1000)); }
left() { echo $((until - $(date +%s))); }
# phase SECONDS: what follows ends within so many seconds, and within the total.
phase() {
  until=$(($(date +%s) + patience * $1))
  [ $until -gt $deadline ] && until=$deadline
}
# text of a JSON string
escaped() { printf '%s' "$1" | LC_ALL=C tr -cd '[:print:]' | cut -c1-240 | sed 's/\\/\\\\/g; s/"/\\"/g'; }
# record NAME STATUS MILLISECONDS LIMIT FILE LAST
record() {
  printf '{"step":"%s","rc":%d,"seconds":%d.%03d,"limit":%d,"file":"%s","last":"%s"}\n' "$(escaped "$1")" \
    "$2" $(($3 / 1000)) \
    $(($3 % 1000)) "$4" "$5" "$(escaped "$6")" >>"$OUTPUT/steps.jsonl"
  summary+=("$(printf '%4d %6d.%d s  %s | %s' "$2" $(($3 / 1000)) $(($3 % 1000 / 100)) "$1" \
    "$(printf '%s' "$6" | cut -c1-80)")")
  echo "${summary[-1]}"
}
# step LIMIT NAME FILE STEP ARGUMENTS...: a step of gpu_steps.sh, its output live in OUTPUT/FILE. 0 if it went
# well.
step() {
  local limit=$((patience * $1)) name=$2 file=$3 rest begin status from last
  shift 3
  rest=$(left)
  if [ $answers -eq 0 ]; then
    record "$name" -1 0 "$limit" "$file" "skipped: the GPU does not answer"
    return 1
  fi
  if [ "$rest" -lt 5 ]; then record "$name" -1 0 "$limit" "$file" "skipped: no time left"; return 1; fi
  [ "$limit" -gt "$rest" ] && limit=$rest
  echo "==== $name" >>"$OUTPUT/$file"
  from=$(stat -c %s "$OUTPUT/$file")
  begin=$(now)
  timeout -k 3 "$limit" bash "$here/gpu_steps.sh" "$@" >>"$OUTPUT/$file" 2>&1 </dev/null
  status=$?
  last=$(tail -c +$((from + 1)) "$OUTPUT/$file" | tail -c 4000 |
    grep -v -e '^[[:space:]]*$' -e 'doctest. Status:' | tail -n 1)
  record "$name" $status $(($(now) - begin)) "$limit" "$file" "$last"
  [ $status -ge 124 ] && [ $asking -eq 0 ] && answer  # it was killed
  return $status
}
# After a step that may have left the GPU in a kernel that does not end: does a later one end? Whether it is
# right is no matter here.
answer() {
  [ "$(left)" -ge 5 ] || return
  local name
  asking=1 answers=0
  for name in "the GPU answers" "the GPU answers, asked again"; do
    [ $answers -eq 0 ] || continue
    answers=1
    step 12 "$name" tests.log cases 'gpu noise*'
    case $? in 77 | 124 | 137) answers=0 ;; esac
  done
  asking=0
}

rows='gpu embed*,gpu rmsnorm*,gpu rope*,gpu combine*,gpu noise*'
# either FILTER...: FILTER|FILTER|...
either() {
  local IFS='|'
  printf '%s' "$*"
}
ffn=$(either 'B3 expert_ffn Mixtral-8x7B 4 x 16384 rows, uniform' \
  'B3 expert_ffn Qwen3-30B-A3B 128 x 4096 rows, uniform' \
  'B3 expert_ffn Qwen3-30B-A3B 128 x 192 rows, uniform' 'B3 expert_ffn Qwen3-30B-A3B 128 x 20 rows, uniform' \
  'B3 expert_ffn Qwen3-30B-A3B 64 x 4096 rows, uniform' 'B3 expert_ffn Mixtral-8x7B 4 x 16384 rows, Zipf' \
  'rows, uniform')
# bench LIMIT NAME TINY FILTER|FILTER|...: ops by filters in the order of their value; with small extents,
# whose shapes have other names, by TINY.
bench() {
  local IFS='|' filters
  read -ra filters <<<"$4"
  [ $TINY -eq 1 ] && filters=("$3")
  step "$1" "$2" ops.log ops "${filters[@]}"
}
# With products by the kernels of that name: mma or wgmma.
path() { EEP_CUDA_PATH=$1 "${@:2}"; }

ops='gemm expert_ffn: expert_merge attention router dispatch score expert_stats twins'
# One case of an op: for the rehearsal, and for tools that make everything a hundred times slower.
declare -A short=([gemm]='gpu gemm: gathered*' [expert_ffn:]='gpu expert_ffn: rows at odd*' \
  [expert_merge]='gpu expert_merge: one-hot*'
  [attention]='gpu attention: many runs*' [router]='gpu router: sums near*' [dispatch]='gpu dispatch: equals*'
  [score]='gpu score: without*' [expert_stats]='gpu expert_stats*')
# The cases of an op.
of() { if [ $TINY -eq 1 ]; then echo "${short[$1]}"; else echo "gpu $1*"; fi; }
correctness() {
  local op model all known="*wgmma*,$rows"
  phase 140
  step 25 "tests: rows" tests.log cases "$rows"
  for op in $ops; do
    known+=",gpu $op*"
    [ $op = twins ] && [ $DEVICE = simt ] && continue  # the toolkit's
    step 25 "tests: ${op%:}" tests.log cases "$(of $op)" '*wgmma*'
  done
  step 15 "tests: uploads, second stream" tests.log cases 'uploads*,beside*'
  [ $TINY -eq 1 ] || step 15 "tests: others" tests.log other_cases 'gpu *' "$known"
  all='*wgmma*'
  [ $TINY -eq 1 ] && all='*wgmma: rows at odd*'
  if step 12 "tests: wgmma, a small case" wgmma.log cases '*wgmma*small case*' &&
    step 30 "tests: wgmma" wgmma.log cases "$all"; then
    wgmma=1
  else
    export EEP_CUDA_PATH=mma
    answer
  fi
  for model in mixtral qwen; do
    step 15 "taps of $model, device against CPU" tests.log taps "$BUNDLE/experiments/demo/$model"
  done
  step 15 "streamed weights keep the bits" tests.log streamed "$BUNDLE/experiments/demo/mixtral"
  step 30 "a search twice, one archive" tests.log search
  [ $wgmma -eq 1 ] && path mma step 15 "taps of mixtral with mma.sync" wgmma.log taps \
    "$BUNDLE/experiments/demo/mixtral"
}

speed() {
  phase 260
  bench 20 "ceilings" ceilings ceilings
  bench 40 "B3: grouped experts" B3 "$ffn"
  bench 25 "B1: merging" "B1 expert_merge Mixtral-8x7B 8 to 4, 1" \
    "$(either 'B1 expert_merge Mixtral-8x7B 8 to 4, 1 candidates' \
      'B1 expert_merge Qwen3-30B-A3B 128 to 64, 1 candidates' \
      'B1 expert_merge Mixtral-8x7B 8 to 4, 8 candidates' \
      'B1 expert_merge Qwen3-30B-A3B 128 to 64, 8 candidates' B1)"
  bench 25 "B2: dense products" B2 \
    'B2 gemm Mixtral-8x7B q|B2 gemm Qwen3-30B-A3B q|B2 cublasLt|B2 gemm square|B2 gemm'
  if [ $wgmma -eq 1 ]; then
    path mma bench 30 "B3: grouped experts with mma.sync" B3 \
      "$(either 'B3 expert_ffn Mixtral-8x7B 4 x 16384 rows, uniform' \
        'B3 expert_ffn Qwen3-30B-A3B 128 x 4096 rows, uniform')"
    path mma bench 20 "B2: dense products with mma.sync" B2 'B2 gemm Mixtral-8x7B q|B2 gemm Qwen3-30B-A3B q'
  fi
  bench 30 "B4: the block of a layer" B4 \
    'B4 mixture Mixtral-8x7B 32768|B4 mixture Qwen3-30B-A3B 32768|B4 mixture Qwen3-30B-A3B 4096'
  bench 20 "B6: attention" B6 'B6 attention Qwen3-30B-A3B|B6 attention Mixtral-8x7B'
  bench 20 "B5: routing" B5 \
    "$(either 'B5 router + dispatch 128 experts, 32768' 'B5 dispatch 128 experts, top 8, 32768' \
      'B5 router + dispatch 8 experts, 32768' 'B5 dispatch')"
  for candidates in 4 64; do
    step 20 "B7: a layer of Mixtral-8x7B, $candidates candidates" ops.log model mixtral-8x7b --layers 1 \
      --candidates $candidates --prompts 16
  done
  step 30 "B8: 8 layers of Qwen3-30B-A3B, merging" ops.log model qwen3-30b-a3b --layers 8 --candidates 4 \
    --phase merge --memory 70G
  step 30 "B8: 8 layers of Qwen3-30B-A3B, pruning" ops.log model qwen3-30b-a3b --layers 8 --candidates 4 \
    --phase prune --memory 70G
}

sanitizers() {
  local op all
  all=$(IFS=,; echo "${short[*]}"),$rows
  phase 110
  command -v compute-sanitizer >/dev/null 2>&1 ||
    { record "compute-sanitizer" 77 0 0 sanitizer.log "not installed"; return; }
  step 40 "memcheck" sanitizer.log cases "$all" '*wgmma*' compute-sanitizer --tool memcheck --error-exitcode 9
  step 30 "synccheck" sanitizer.log cases "$all" '*wgmma*' compute-sanitizer --tool synccheck \
    --error-exitcode 9
  for op in expert_ffn: gemm attention router score dispatch; do
    step 15 "racecheck: ${op%:}" sanitizer.log cases "${short[$op]}" '*wgmma*' compute-sanitizer --tool \
      racecheck --error-exitcode 9
  done
}

profiles() {
  phase $(left)
  until=$deadline
  step 40 "profile: grouped experts" "$1" profile 'gate_up|ffn' \
    'B3 expert_ffn Mixtral-8x7B 4 x 16384 rows, uniform'
  step 30 "profile: merging" "$1" profile merge 'B1 expert_merge Qwen3-30B-A3B 128 to 64, 8 candidates, 100'
  step 30 "profile: attention" "$1" profile 'attend|attention' \
    'B6 attention Qwen3-30B-A3B heads 32/4 x 128, 16 x 2048'
}

after_green() {
  bench 60 "B3 in full" B3 'B3'
  bench 30 "B4 in full" B4 'B4'
  profiles profiles.log
  step 60 "B8: 16 layers of Mixtral-8x7B" ops.log model mixtral-8x7b --layers 16 --candidates 4 --phase \
    prune --memory 70G
  step 60 "B8: Qwen3-30B-A3B, all layers, merging" ops.log model qwen3-30b-a3b --candidates 4 --phase merge \
    --memory 74G --target 88000
  for phase in prune merge; do
    step 30 "B9: decode steps of 256 sequences, $phase" ops.log model qwen3-30b-a3b --layers 4 --candidates \
      4 --tokens 128 --decode 4 --phase $phase
  done
  step 90 "other programs at the same shapes" ops.log peers "$python"
}

after_red() {
  [ -x "$(command -v compute-sanitizer)" ] &&
    step 60 "memcheck of the failing cases" sanitizer.log cases "$failing" '*wgmma*' compute-sanitizer \
    --tool memcheck --error-exitcode 9
  answer
  export CUDA_LAUNCH_BLOCKING=1
  step 40 "the failing cases, each launch waited for" tests.log each_case 15 "$failing"
  unset CUDA_LAUNCH_BLOCKING
  step 90 "wgmma, case by case" wgmma.log each_case 10 '*wgmma*'
}

# Rows of ops.csv without what a reader of a log can do without.
measured() {
  [ -f "$OUTPUT/ops.csv" ] || return 0
  awk -F '"' 'NR > 1 && !(/^ceiling/ && $5 ~ /^,,,,,,,/) { split($5, n, ",");
    printf "%-7s %-58s %10s us %8s TFLOP/s %8s GB/s %5.4s %% %s %s %s\n", $1, substr($2 " " $4, 1, 58),
    n[2], n[5], n[7], n[9], n[11] == "DIFFERENT" ? n[11] : "", $10, substr($12, 1, 150) }' "$OUTPUT/ops.csv" |
      sed 's/  *$//' | tail -n 45
}
# What failed, short enough for the end of a log.
failures() {
  grep -hE 'TEST CASE:|ERROR|values:|logged:|exception|terminate|CUDA says|DIFFERS|differ|no case has' \
    "$OUTPUT"/tests.log "$OUTPUT"/wgmma.log 2>/dev/null |
    grep -v -e 'no difference' | cut -c1-150 | uniq | head -n 30
  grep -hE '=========.*(ERROR SUMMARY|Invalid|hazard|Barrier|leak)' "$OUTPUT/sanitizer.log" 2>/dev/null |
    cut -c1-150 | uniq | head -n 10
}

begin=$(date +%s)
phase 20
step 20 "environment" gpu.txt environment
until=$deadline
case $after in
  green) after_green ;;
  red) after_red ;;
  *)
    correctness
    speed
    sanitizers
    profiles ops.log ;;
esac
echo
measured
echo "---- $(head -n 3 "$OUTPUT/gpu.txt" | tail -n 1)"
printf '%s\n' "${summary[@]}"
echo "---- what failed"
failures
echo "---- $(($(date +%s) - begin)) s of ${positional[2]}, files: $(ls "$OUTPUT" | tr '\n' ' ')"
exit 0
