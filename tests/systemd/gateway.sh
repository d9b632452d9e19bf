#!/usr/bin/env bash
# A service that starts three jobs when it is started the first time, as an agent's gateway would.
set -eu
started=$HOME/count
if [ ! -e "$started" ]; then
  for n in 1 2 3; do
    claudejob start --job-id "$TAG-$n" --cwd / --prompt work >>"$HOME/log"
  done
  touch "$started"
fi
exec sleep infinity
