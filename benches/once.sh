#!/bin/sh
# Runs every bench to its end once, on a small count: what is measured so means nothing, but a bench that no longer runs is found.
set -eu
cd "$(dirname "$0")/.."

once() {
    bench=$1
    shift
    echo "bench $bench"
    deploy/cargo.sh bench --profile release --locked --bench "$bench" -- "$@"
}

deploy/cargo.sh bench --profile release --locked --no-run
once decode --test
once walk --test
once fold 20000
once store 2
once budgets 20000
once gate 2000
once overshoot 1000
once kafka 20000
