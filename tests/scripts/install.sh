#!/usr/bin/env bash
# Installs a build into a scratch prefix and uses it as a stranger would: install.sh BUILD_DIRECTORY.
set -eu
. "$(dirname "$0")/sources.sh"
build=$1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cmake --install "$build" --prefix "$scratch/prefix" >/dev/null
for file in bin/eep share/man/man1/eep.1 share/bash-completion/completions/eep share/doc/eep/LICENSE \
  share/eep/experiment.schema.json share/eep/tasks/sort.yaml; do
  [ -s "$scratch/prefix/$file" ] || { echo "install: $file is missing"; exit 1; }
done
"$scratch/prefix/bin/eep" --version
if [ -f "$build/libeep_mpi.so" ]; then  # the installed program finds the library of its ranks
  "$scratch/prefix/bin/eep" doctor | grep -q "runs over several ranks: $scratch/prefix/" ||
    { echo "install: libeep_mpi.so is not found"; exit 1; }
fi

cmake -S tests/install -B "$scratch/build" -DCMAKE_PREFIX_PATH="$scratch/prefix" >"$scratch/log" 2>&1 &&
  cmake --build "$scratch/build" >>"$scratch/log" 2>&1 ||
  { cat "$scratch/log"; echo "install: find_package failed"; exit 1; }
"$scratch/build/consumer"

export PKG_CONFIG_PATH=$scratch/prefix/lib/pkgconfig
# shellcheck disable=SC2046
g++ tests/install/consumer.cpp $(pkg-config --cflags --libs eep) -o "$scratch/consumer"
"$scratch/consumer"
echo "install: ok"
