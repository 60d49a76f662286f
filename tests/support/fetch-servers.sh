#!/bin/sh
# Fetches the servers that the tests run against (Apache Kafka, a schema registry) into a cache outside the clone.
# Called by `make setup`. Does nothing, quickly, when they are there; prints the directory that holds them.
# With --check it fetches nothing and fails when they are not there: what the tests ask.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
version=$(cksum <"$here/pom.xml" | cut -d' ' -f1)
servers="${XDG_CACHE_HOME:-$HOME/.cache}/tallyman/servers-$version"

if [ -e "$servers/complete" ]; then
    echo "$servers"
    exit 0
fi
if [ "${1:-}" = --check ]; then
    echo "fetch-servers: the servers for the tests are not in $servers; \`make setup\` fetches them" >&2
    exit 1
fi
for tool in java mvn; do
    command -v "$tool" >/dev/null || {
        echo "fetch-servers: $tool is missing; on Debian: apt-get install default-jre-headless maven" >&2
        exit 1
    }
done
# Another fetch may run beside this one: each fills its own directory, the first to finish gives it its name.
mkdir -p "$(dirname "$servers")"
part=$(mktemp -d "$servers.part-XXXXXX")
trap 'rm -rf "$part"' EXIT
mvn -q -B -f "$here/pom.xml" -Dservers.dir="$part" package >&2
touch "$part/complete"
chmod 755 "$part"
mv -T "$part" "$servers" 2>/dev/null || [ -e "$servers/complete" ]
echo "$servers"
