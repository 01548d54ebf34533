# Sourced by the other scripts: installs what a fresh Debian lacks, as root or through sudo, and
# else says what is missing.
# shellcheck shell=bash

policy=/usr/sbin/policy-rc.d
policy_is_ours=

# prepare TOOL…: what the steps need is there afterwards, or the run ends saying what is missing.
prepare() {
    local tool missing=() packages=()
    find_cargo
    for tool in "$@"; do
        usable "$tool" || missing+=("$tool")
    done
    if ((${#missing[@]})); then
        for tool in "${missing[@]}"; do
            case $tool in
                cc) packages+=(gcc libc6-dev) ;;
                node) packages+=(nodejs) ;;
                promtool) packages+=(prometheus) ;;
                musl-gcc) packages+=(musl-tools) ;;
                *) packages+=("$tool") ;;
            esac
        done
        install "${packages[@]}"
    fi
}

usable() {
    case $1 in
        # A compiler without the headers and start files of the C library can't link.
        cc) have cc && echo 'int main(void) { return 0; }' | cc -x c -o /dev/null - 2>/dev/null ;;
        *) have "$1" ;;
    esac
}

find_cargo() {
    local component
    if ! have cargo && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    if ! have cargo; then
        echo "Rust is missing. Install it with" >&2
        echo "    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh" >&2
        echo "and run ${0##*/} again." >&2
        exit 1
    fi
    for component in fmt clippy; do
        cargo "$component" --version >/dev/null 2>&1 && continue
        if ! { have rustup && rustup component add "${component/fmt/rustfmt}"; }; then
            echo "cargo $component is missing; install it with your Rust toolchain" >&2
            exit 1
        fi
    done
}

# install PACKAGE…: as root, or through sudo.
install() {
    local as_root=()
    if ((EUID != 0)); then
        as_root=(sudo)
    fi
    if ! { have apt-get && may_become_root; }; then
        echo "missing: $*" >&2
        echo "Install them (on Debian: apt-get install $*) and run ${0##*/} again." >&2
        exit 1
    fi
    echo "==> installing $*"
    # The tests start their own servers; Debian's service on port 6379 is not wanted.
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        policy_is_ours=yes
        "${as_root[@]}" chmod 755 "$policy"
    fi
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@"
    remove_policy
}

# A sudo that asks for a password is of use only to somebody who can type it.
may_become_root() {
    ((EUID == 0)) || { have sudo && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; }
}

remove_policy() {
    if [[ -n $policy_is_ours ]]; then
        if ((EUID == 0)); then rm -f "$policy"; else sudo rm -f "$policy"; fi
        policy_is_ours=
    fi
}

have() {
    command -v "$1" >/dev/null 2>&1
}
