#!/bin/sh
# How many instructions the hot path (decode, dedupe, append, seal) takes for a fixed log, under valgrind's callgrind: a number
# that a noisy machine does not change. Fails when it is over 5% above the one in benches/instructions.txt;
# `benches/instructions.sh accept` writes the new one there.
set -eu
cd "$(dirname "$0")/.."

limit_percent=105
kept=benches/instructions.txt
bin=$(deploy/cargo.sh bench --profile release --locked --bench fold --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\))/\1/p' | tail -n 1)
[ -n "$bin" ] || { echo "the bench was not built: deploy/cargo.sh bench --profile release --bench fold --no-run" >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
valgrind --tool=callgrind --callgrind-out-file="$dir/out" --collect-atstart=no --toggle-collect='*hot_path*' \
    "$bin" instructions >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
counted=$(sed -n 's/.*Collected : \([0-9]*\).*/\1/p' "$dir/log" | tail -n 1)
[ "${counted:-0}" -gt 0 ] || { cat "$dir/log" >&2; echo "nothing was counted" >&2; exit 1; }
if [ "${1:-}" = accept ]; then
    echo "$counted" >"$kept"
fi
before=$(cat "$kept")
echo "instructions of the hot path: $counted, kept $before ($((counted * 1000 / before)) per mille)"
if [ $((counted / limit_percent * 100)) -gt "$before" ]; then
    echo "the hot path grew by over 5%. If that is meant: benches/instructions.sh accept, and commit $kept" >&2
    exit 1
fi
