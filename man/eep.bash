# bash completion for eep
_eep() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} options
  local common="--device --threads --memory --seed --parity --log-level --cpu-target --help"
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    mapfile -t COMPREPLY < <(compgen -W \
      "run eval inspect logits generate tokenize calibrate select list export verify import-coefficients convert \
      doctor \
      --version --help" -- "$word")
    return
  fi
  case $previous in
    --device) mapfile -t COMPREPLY < <(compgen -W "auto cpu cuda simt" -- "$word") && return ;;
    --log-level) mapfile -t COMPREPLY < <(compgen -W "error warn info debug" -- "$word") && return ;;
    --router-space) mapfile -t COMPREPLY < <(compgen -W "logits probabilities" -- "$word") && return ;;
    --protocol) mapfile -t COMPREPLY < <(compgen -W "harness eep" -- "$word") && return ;;
    --format) mapfile -t COMPREPLY < <(compgen -W "hf native" -- "$word") && return ;;
    --dtype) mapfile -t COMPREPLY < <(compgen -W "auto f32 f16 bf16" -- "$word") && return ;;
    --template) mapfile -t COMPREPLY < <(compgen -W "mistral-v1 chatml none" -- "$word") && return ;;
    --parity) mapfile -t COMPREPLY < <(compgen -W "none hf eep" -- "$word") && return ;;
    --mtp) mapfile -t COMPREPLY < <(compgen -W "refuse keep prune drop" -- "$word") && return ;;
    --split) mapfile -t COMPREPLY < <(compgen -W "train dev test" -- "$word") && return ;;
    --method)
      mapfile -t COMPREPLY < <(compgen -W \
        "random frequency soft_activation soft_activation_selected soft_activation_all ean wean man msan reap \
        reap_probability reap_l2 max_activation naee" -- "$word")
      return ;;
  esac
  case $command in
    run) options="--set --output --resume --resume-if-there --dry-run --json" ;;
    eval) options="--task --split --limit --protocol --plan --samples --json" ;;
    inspect | doctor) options="--json" ;;
    logits) options="--ids --ids-file --text --plan --out --taps --taps-against" ;;
    generate) options="--prompt --ids --chat --template --system --chat-set --max-new --ignore-eos --print-ids --plan" ;;
    tokenize) options="--text --file --lines --no-special --decode" ;;
    calibrate) options="--task --split --limit --experts --subset-tokens --sampled-subsets --out" ;;
    select) options="--method --experts --groups --top-k --router-space --draw --out" ;;
    export) options="--plan --out --format --mtp --shard-size --allow-ties" ;;
    verify) options="--against --plan --no-logits --json" ;;
    import-coefficients) options="--layers --top-k --out" ;;
    convert) options="--out --dtype --moefy --top-k --calibration --tokens" ;;
  esac
  if [ "$command $COMP_CWORD" = "list 2" ]; then
    mapfile -t COMPREPLY < <(compgen -W "algorithms criteria metrics extraction schema" -- "$word")
    return
  fi
  case $word in
    -*) mapfile -t COMPREPLY < <(compgen -W "$options $common" -- "$word") ;;
    *) mapfile -t COMPREPLY < <(compgen -f -- "$word") && compopt -o filenames 2>/dev/null ;;
  esac
}
complete -F _eep eep
