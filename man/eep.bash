# bash completion for eep
# The first column of a table of the program.
_eep_rows() { "${COMP_WORDS[0]}" list "$1" 2>/dev/null | awk '{print $1}'; }
_eep() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} options
  local common="--device --threads --memory --seed --parity --precision --log-level --cpu-target --help"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W \
      "run init report eval inspect logits generate tokenize calibrate select list export verify \
      import-keep-list import-coefficients convert doctor task profile \
      --version --help" -- "$word")
    return
  fi
  case $previous in
    --device) mapfile -t COMPREPLY < <(compgen -W "auto cpu cuda simt" -- "$word") && return ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W "error warn info debug" -- "$word") && return ;;
    --router-space) mapfile -t COMPREPLY < <(compgen -W "logits probabilities" -- "$word") && return ;;
    --protocol) mapfile -t COMPREPLY < <(compgen -W "harness eep" -- "$word") && return ;;
    --format) mapfile -t COMPREPLY < <(compgen -W "hf native hf-per-layer" -- "$word") && return ;;
    --dtype) mapfile -t COMPREPLY < <(compgen -W "auto f32 f16 bf16" -- "$word") && return ;;
    --task)
      mapfile -t COMPREPLY < <(compgen -W "$(_eep_rows tasks)" -- "$word"; compgen -f -- "$word") && return
      ;;
    --cpu-target) mapfile -t COMPREPLY < <(compgen -W "$(_eep_rows targets)" -- "$word") && return ;;
    --set)
      mapfile -t COMPREPLY < <(compgen -W "$(_eep_rows fields)" -S = -- "$word")
      compopt -o nospace 2>/dev/null
      return
      ;;
    --template)
      mapfile -t COMPREPLY < <(compgen -W "auto on off mistral-v1 chatml none" -- "$word") && return
      ;;
    --precision) mapfile -t COMPREPLY < <(compgen -W "f32 bf16" -- "$word") && return ;;
    --parity) mapfile -t COMPREPLY < <(compgen -W "none hf eep" -- "$word") && return ;;
    --mtp) mapfile -t COMPREPLY < <(compgen -W "refuse keep prune drop" -- "$word") && return ;;
    --split) mapfile -t COMPREPLY < <(compgen -W "train dev test" -- "$word") && return ;;
    --matrices) mapfile -t COMPREPLY < <(compgen -W "auto on off" -- "$word") && return ;;
    --merged-router) mapfile -t COMPREPLY < <(compgen -W "representative average sum" -- "$word") && return ;;
    --allocation)
      mapfile -t COMPREPLY < <(compgen -W "uniform global alpha_mass layer_error" -- "$word") && return
      ;;
    --method)
      mapfile -t COMPREPLY < <(compgen -W \
        "random frequency soft_activation soft_activation_selected soft_activation_all ean wean man msan \
        reap reap_probability reap_l2 max_activation naee easyep shape mone aimer hope msmoe hcsmoe ream" \
        -- "$word")
      return ;;
  esac
  case $command in
    run) options="--set --output --resume --resume-if-there --ranks-per-run --pipeline --share-device \
      --dry-run --json" ;;
    init) options="--task --out" ;;
    report) options="--against --out --open" ;;
    eval) options="--task --split --limit --protocol --plan --samples --json" ;;
    inspect) options="--pipeline --json" ;;
    doctor) options="--json" ;;
    logits) options="--ids --ids-file --text --plan --out --taps --taps-against" ;;
    generate) options="--prompt --ids --probe --against --json --chat --template --system --chat-set \
      --max-new --ignore-eos --print-ids --plan" ;;
    tokenize) options="--text --file --lines --no-special --decode" ;;
    calibrate) options="--task --split --limit --text --field --template --min-tokens --window --experts \
      --subset-tokens --sampled-subsets --matrices --share-device --out" ;;
    select) options="--method --experts --groups --maxmin --balanced --allocation --least --merged-router \
      --top-k --router-space --draw --export-keep-list --out" ;;
    export) options="--plan --out --format --mtp --shard-size --allow-ties --task --ids-file" ;;
    verify) options="--against --plan --no-logits --json" ;;
    import-keep-list) options="--model --experts --top-k --out" ;;
    import-coefficients) options="--layers --top-k --out" ;;
    task) options="--out --index --hash --json" ;;
    profile) options="--plan --top-k --batch --prompt --new --repeat --json" ;;
    convert) options="--out --dtype --moefy --top-k --calibration --tokens" ;;
  esac
  if [ "$command $COMP_CWORD" = "task 2" ]; then
    mapfile -t COMPREPLY < <(compgen -W "import list" -- "$word")
    return
  fi
  if [ "$command $COMP_CWORD" = "list 2" ]; then
    mapfile -t COMPREPLY < <(compgen -W \
      "algorithms criteria skipping allocations metrics extraction fields tasks targets schema" -- "$word")
    return
  fi
  case $word in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options $common" -- "$word") ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$word") && compopt -o filenames 2>/dev/null ;;
  esac
}
complete -F _eep eep
