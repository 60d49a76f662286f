#!/bin/sh
# Makes the Python environment of the tests (what a gateway in Python needs) in a cache outside the clone. Called by
# `make setup`. Does nothing, quickly, when it is there; prints the path of its python.
# With --check it fetches nothing and fails when it is not there: what the tests ask.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
version=$(cksum <"$here/requirements.txt" | cut -d' ' -f1)
home="${XDG_CACHE_HOME:-$HOME/.cache}/tallyman/python-$version"

if [ -e "$home/complete" ]; then
    echo "$home/bin/python"
    exit 0
fi
if [ "${1:-}" = --check ]; then
    echo "fetch-python: the Python packages for the tests are not in $home; \`make setup\` fetches them" >&2
    exit 1
fi
# An environment knows its own path, so it is made in place; two that are made at once would be one.
mkdir -p "$(dirname "$home")"
exec 9>"$home.lock"
flock 9
if [ ! -e "$home/complete" ]; then
    rm -rf "$home"
    python3 -m venv "$home" >&2
    "$home/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2
    touch "$home/complete"
fi
echo "$home/bin/python"
