#!/usr/bin/env bash
# Includes go one way: experiments -> es, loaders -> engine -> kernels. es sees of the engine pure data alone.
set -u
. "$(dirname "$0")/sources.sh"

failures=0
while IFS= read -r file; do
  room=${file%%/*}
  case $room in
    kernels) allowed='kernels/' ;;
    engine) allowed='engine/|kernels/' ;;
    es) allowed='es/|engine/expert_plan\.h"|engine/expert_statistics\.h"|kernels/noise\.h"|kernels/scalar_math\.h"|kernels/error\.h"' ;;
    loaders) allowed='loaders/|engine/|kernels/' ;;
    experiments) allowed='experiments/|es/|loaders/|engine/|kernels/' ;;
    *) continue ;;
  esac
  # Our includes are quoted and written from the root: ROOM/file.h; other quoted ones name a library's folder.
  bad=$(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"((kernels|engine|es|loaders|experiments|tests|bench)/|[^/]*"|\.)' \
    "$file" | grep -vE "include[[:space:]]*\"($allowed)")
  if [ -n "$bad" ]; then
    printf '%s\n' "$bad" | sed "s|^|$file:|"
    failures=$((failures + 1))
  fi
done < <(sources '*.h' '*.cpp' '*.cu' '*.cuh')
[ $failures -eq 0 ] || { echo "layering: $failures files include what their room may not see"; exit 1; }
echo "layering: ok"
