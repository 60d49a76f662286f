#!/bin/sh
# Sets up what is missing to build (`setup.sh demo`) or to build and test (`setup.sh test`). Quick and silent when all
# is there. Installs Debian packages where it may (root, or sudo without a question); elsewhere it names each missing
# thing and how to get it, and ends with 2. It never installs a Rust toolchain: it names the command.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
what=${1:-test}
case $what in
demo | test) ;;
*)
    echo "usage: setup.sh demo|test" >&2
    exit 2
    ;;
esac

have() { command -v "$1" >/dev/null 2>&1; }

# The first file that a list of patterns matches, if any.
found() {
    for file; do
        [ -e "$file" ] && return 0
    done
    return 1
}

have_libclang() {
    found "${LIBCLANG_PATH:-/nowhere}"/libclang*.so* "${LIBCLANG_PATH:-/nowhere}"/libclang.dylib && return 0
    # bindgen needs the library and the compiler's own headers.
    found /usr/lib/llvm*/lib/libclang*.so* /usr/lib/*/libclang*.so* /usr/lib64/libclang*.so* \
        /usr/local/opt/llvm/lib/libclang.dylib /opt/homebrew/opt/llvm/lib/libclang.dylib || return 1
    found /usr/lib/llvm*/lib/clang/*/include/stddef.h /usr/lib/clang/*/include/stddef.h \
        /usr/local/opt/llvm/lib/clang/*/include/stddef.h /opt/homebrew/opt/llvm/lib/clang/*/include/stddef.h
}

# nginx stands where only root's path leads.
have_nginx() { have nginx || found /usr/sbin/nginx /usr/local/sbin/nginx; }

have_venv() { have python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

have_library() { have pkg-config && pkg-config --exists "$1"; }

have_java() {
    have java || return 1
    major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${major:-0}" -ge 17 ]
}

have_certificates() {
    found /etc/ssl/certs/ca-certificates.crt /etc/ssl/cert.pem /etc/pki/tls/certs/ca-bundle.crt "${SSL_CERT_FILE:-/nowhere}"
}

# Each need: what it is, the Debian package, the Fedora one, what it is for, and its check.
packages=
told=
need() {
    name=$1 debian=$2 fedora=$3 why=$4
    shift 4
    "$@" && return 0
    packages="$packages $debian"
    told="$told
  $name ($why)
      Debian, Ubuntu: apt-get install $debian      Fedora: dnf install $fedora"
}

check() {
    packages= told=
    need "a C compiler" gcc gcc "librdkafka" have cc
    need "a C++ compiler" g++ gcc-c++ "RocksDB" have c++
    need "make" make make "librdkafka" have make
    need "pkg-config" pkg-config pkgconf-pkg-config "finding OpenSSL" have pkg-config
    need "libclang" libclang-dev clang-devel "the bindings of RocksDB; elsewhere: set LIBCLANG_PATH" have_libclang
    need "OpenSSL's headers" libssl-dev openssl-devel "TLS to Kafka" have_library openssl
    need "zlib's headers" zlib1g-dev zlib-devel "compressed records" have_library zlib
    need "CA certificates" ca-certificates ca-certificates "downloads of crates" have_certificates
    [ "$what" = test ] || return 0
    need "Java 17 or later" default-jre-headless java-21-openjdk-headless "the real Kafka of the tests" have_java
    need "Maven" maven maven "fetching that Kafka" have mvn
    need "nginx" nginx nginx "a gateway of the tests" have_nginx
    need "valgrind" valgrind valgrind "counting the hot path's instructions" have valgrind
    need "promtool" prometheus golang-github-prometheus "the format of /metrics" have promtool
    need "Python 3 with venv" python3-venv python3 "a gateway of the tests" have_venv
}

give_up() {
    echo "Missing, and to be installed by hand because $1:$told" >&2
    exit 2
}

install() {
    have apt-get || give_up "this is no Debian or Ubuntu"
    if [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif have sudo && sudo -n true 2>/dev/null; then
        as_root="sudo -n"
    else
        give_up "neither root nor sudo without a password is at hand"
    fi
    echo "Installing:$packages" >&2
    log=$(mktemp)
    # Only the programs are wanted: no package's service (nginx, prometheus) is started, now or at the next boot.
    policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then
        policy=
    else
        trap '$as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
        $as_root chmod 755 "$policy"
    fi
    # shellcheck disable=SC2086 # both are lists of words
    if ! { $as_root apt-get update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages; } \
        >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        give_up "apt-get failed (above)"
    fi
    rm -f "$log"
    if [ -n "$policy" ]; then
        $as_root rm -f "$policy"
        trap - EXIT
    fi
    for service in nginx prometheus; do
        case " $packages " in
        *" $service "*) ! have systemctl || $as_root systemctl disable --quiet "$service" 2>/dev/null || true ;;
        esac
    done
}

check
if [ -n "$packages" ]; then
    install
    check
    [ -z "$packages" ] || give_up "it is still not found after installing"
fi

# cargo may be installed and not on the path of a shell that was opened before.
PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
wanted=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
if ! have cargo; then
    cat >&2 <<END
The Rust toolchain is missing. This gets it (it then installs Rust $wanted by itself):
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain $wanted
END
    exit 2
fi
rust=$(cd "$root" && rustc --version 2>&1) || {
    echo "rustc does not run here: $rust" >&2
    exit 2
}
case $rust in
"rustc $wanted "*) ;;
*)
    echo "This project is built with Rust $wanted, here is: $rust" >&2
    echo "  rustup toolchain install $wanted --profile minimal -c rustfmt -c clippy" >&2
    exit 2
    ;;
esac

if [ "$what" = test ] && ! python=$("$root/tests/support/fetch-python.sh"); then
    echo "The Python packages of the tests could not be fetched (above)." >&2
    exit 2
fi
if [ "$what" = test ] && ! servers=$("$root/tests/support/fetch-servers.sh"); then
    echo "The servers of the tests could not be fetched (above)." >&2
    exit 2
fi
