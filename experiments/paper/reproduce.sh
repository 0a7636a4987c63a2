#!/usr/bin/env bash
# A table or figure of the paper as one command: reproduce.sh ID --model DIR --data DIR [--miniature] [--seeds
# N] [--out DIR] [--coefficients DIR] [--dry-run] [--toy]; without an ID the list. What it needs and makes:
# docs/reproduction.md.
exec python3 "$(dirname "$0")/reproduce.py" "$@"
