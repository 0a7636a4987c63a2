#!/usr/bin/env bash
# Without a scheduler: one rank a GPU of this machine, N of them: plain.sh N X.yaml DIRECTORY
# mpirun kills what has not left a second after it was told to; with the longer time a chunk can end.
set -u
ranks=$1 experiment=$2 directory=$3
exec mpirun -n "$ranks" --bind-to none --mca odls_base_sigkill_timeout 60 \
  eep run "$experiment" --output "$directory" --resume-if-there
