# shellcheck shell=bash
# Sourced by the Makefile and by the scripts: makes what scripts/setup put under .tools
# visible to every program that is started afterwards. Changes nothing on disk.

TASKLEASE_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
# Programs look for a Postgres server in its folder postgres/bin last, so it counts only
# where the machine has no server of its own.
TASKLEASE_TOOLS_DIR=$TASKLEASE_ROOT/.tools
export TASKLEASE_ROOT TASKLEASE_TOOLS_DIR

PATH=$TASKLEASE_TOOLS_DIR/bin:$PATH
if [[ -x $TASKLEASE_TOOLS_DIR/go/bin/go ]]; then
    PATH=$TASKLEASE_TOOLS_DIR/go/bin:$PATH
fi
export PATH

# rust-toolchain.toml names the exact toolchain. Where it is missing and cannot be
# downloaded, a `stable` of the same minor version is as good.
if command -v rustup >/dev/null && ! (cd "$TASKLEASE_ROOT" && rustc --version) >/dev/null 2>&1; then
    if [[ $(rustc +stable --version 2>/dev/null) == "rustc 1.95."* ]]; then
        export RUSTUP_TOOLCHAIN=stable
    fi
fi

# True if Postgres can work in a folder of this name. It refuses to run as root, so root's
# runs as another user, who must be able to enter every folder above it.
postgres_can_reach() {
    [[ $(id -u) == 0 ]] || return 0
    local dir mode
    dir=$(cd -- "$(dirname -- "$1")" && pwd) || return 1
    while :; do
        mode=$(stat -c %A -- "$dir") || return 1
        [[ $mode == *[xt] ]] || return 1
        [[ $dir != / ]] || return 0
        dir=$(dirname -- "$dir")
    done
}
