#!/usr/bin/env bash
# Files what gpu_run.sh brought back: gpu_file.sh OUTPUT... [--results FOLDER]
exec python3 "$(dirname "$0")/gpu_file.py" "$@"
