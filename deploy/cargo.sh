#!/bin/sh
# Runs cargo with a RocksDB that is compiled once, into the cache outside the clone: `deploy/cargo.sh build --release`.
# The crate alone compiles 343 files one by one, which takes three times as long (deploy/rocksdb.mk). A plain
# `cargo build` works too. On anything but Linux, or when ROCKSDB_LIB_DIR is set, this script only runs cargo.
set -eu

PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
root=$(cd "$(dirname "$0")/.." && pwd)
cache="${XDG_CACHE_HOME:-$HOME/.cache}/tallyman"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
if [ "$(uname -s)" != Linux ] || [ -n "${ROCKSDB_LIB_DIR:-}" ]; then
    exec cargo "$@"
fi

# Prints the folder of a crate's sources. cargo fetches them when they are not there.
host=$(rustc -vV | sed -n 's/^host: //p')
metadata=$(cargo metadata --locked --format-version 1 --filter-platform "$host" --manifest-path "$root/Cargo.toml")
sources_of() {
    printf '%s' "$metadata" | grep -o "\"manifest_path\":\"[^\"]*/$1-[0-9][^\"/]*/Cargo.toml\"" | head -n 1 |
        sed 's/^"manifest_path":"//; s/\/Cargo.toml"$//'
}
crate=$(sources_of librocksdb-sys)
lz4=$(sources_of lz4-sys)/liblz4/lib
key=$({ cat "$root/deploy/rocksdb.mk" && "${CXX:-c++}" --version; } | cksum | cut -d' ' -f1)
library="$cache/rocksdb-${crate##*-sys-}-$key"

if [ ! -e "$library/librocksdb.a" ]; then
    # A piece takes up to 2.1 GB of memory and about a minute and a half of a core.
    jobs=$(awk '/^MemAvailable:/ { print int($2 / 2200000) }' /proc/meminfo)
    [ "$jobs" -le "$(nproc)" ] || jobs=$(nproc)
    [ "$jobs" -ge 1 ] || jobs=1
    echo "Compiling RocksDB, once: about $((12 / jobs + 1)) minutes on $jobs cores." >&2
    mkdir -p "$library"
    # Two builds at once wait for each other; the second finds the library there.
    flock "$library" make --no-print-directory -j "$jobs" -C "$library" -f "$root/deploy/rocksdb.mk" \
        CRATE="$crate" LZ4="$lz4"
    rm -f "$library"/piece-* "$library"/version.o
fi
ROCKSDB_LIB_DIR=$library ROCKSDB_STATIC=1 exec cargo "$@"
