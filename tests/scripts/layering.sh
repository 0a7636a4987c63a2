#!/usr/bin/env bash
# Includes go one way: experiments -> es, loaders -> engine -> kernels, and within a room from closet to
# closet as below. es sees of the engine pure data alone; kernels/common is the ground that every file may
# include.
set -u
. "$(dirname "$0")/sources.sh"

# closet, and what it may include beside itself and kernels/common
may_include() {
  case $1 in
    kernels/common) echo '' ;;
    kernels/cpu) echo '' ;;
    kernels/gpu | kernels/simt) echo 'kernels/(gpu|simt)/' ;;
    kernels) echo 'kernels/' ;;
    engine) echo 'kernels/' ;;
    es) echo 'engine/expert_plan\.h"|engine/expert_statistics\.h"' ;;
    loaders/formats) echo 'kernels/cpu/' ;;
    loaders/text) echo 'loaders/formats/' ;;
    loaders/models) echo 'loaders/(formats|text)/|engine/|kernels/' ;;
    loaders/tasks) echo 'loaders/(formats|text)/|engine/|kernels/' ;;
    experiments/ranks/mpi) echo 'experiments/ranks/' ;;
    experiments/ranks) echo 'es/bytes\.h"' ;;
    experiments/study) echo 'experiments/ranks/|es/|loaders/|engine/|kernels/' ;;
    experiments/report) echo 'experiments/study/|experiments/ranks/|es/|loaders/|engine/|kernels/' ;;
    experiments/program) echo 'experiments/(study|report|ranks)/|es/|loaders/|engine/|kernels/' ;;
    *) return 1 ;;
  esac
}

failures=0
while IFS= read -r file; do
  case $file in
    kernels/*.* | engine/* | es/* | loaders/* | experiments/*) ;;
    *) continue ;;
  esac
  closet=${file%/*}
  [ "$closet" = kernels/cuda ] && continue
  others=$(may_include "$closet") || { echo "$file: $closet is no closet of the plan"; failures=$((failures \
    + 1)); continue; }
  # Our includes are quoted and written from the root: CLOSET/file.h; other quoted ones name a library's
  # folder.
  rooms='kernels|engine|es|loaders|experiments|tests|bench'
  bad=$(grep -nE '^[[:space:]]*#[[:space:]]*include[[:space:]]*"(('"$rooms"')/|[^/]*"|\.)' \
    "$file" | grep -vE "include[[:space:]]*\"(kernels/common/|$closet/[^/]*\"${others:+|$others})")
  if [ -n "$bad" ]; then
    printf '%s\n' "$bad" | sed "s|^|$file:|"
    failures=$((failures + 1))
  fi
done < <(sources '*.h' '*.cpp' '*.cu' '*.cuh')
[ $failures -eq 0 ] || { echo "layering: $failures files include what their room may not see"; exit 1; }
echo "layering: ok"
