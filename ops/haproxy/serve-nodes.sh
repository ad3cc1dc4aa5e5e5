#!/bin/sh
# Runs a world, three nodes on it and HAProxy in front, all on loopback, until Ctrl-C.
#
#   THIRDKEY_HOME   the data folder, ./.thirdkey by default
#   SERVER_PORT     where HAProxy answers, 8080 by default; the nodes take the ports from 11 above it on
#
# Each node's log lies in its folder, THIRDKEY_HOME/nodes/NAME.
set -eu
cd -- "$(dirname -- "$0")/../.."

python=.venv/bin/python
home=${THIRDKEY_HOME:-.thirdkey}
port=${SERVER_PORT:-8080}
pids=''
PATH=$PATH:/usr/sbin
export THIRDKEY_HOME="$home"

main() {
    umask 077
    command -v haproxy >/dev/null || { echo "haproxy is missing; Debian has it in the package of that name" >&2; exit 1; }
    trap 'end' EXIT
    trap 'exit 0' INT TERM
    "$python" -m service world &
    world=$!
    await "$home/world.json" "$world"
    for number in 1 2 3; do node "$number"; done
    THIRDKEY_BIND=127.0.0.1:$port \
        THIRDKEY_NODE_1=127.0.0.1:$((port + 11)) \
        THIRDKEY_NODE_2=127.0.0.1:$((port + 12)) \
        THIRDKEY_NODE_3=127.0.0.1:$((port + 13)) \
        haproxy -W -f ops/haproxy/haproxy.cfg &
    pids="$! $pids"
    echo "three nodes behind http://127.0.0.1:$port; tokens: .venv/bin/thirdkey token issue --sub NAME [--right admin]"
    wait "$world"
}

node() {
    folder=$home/nodes/node-$1
    mkdir -p "$folder"
    rm -f "$folder/service.json"
    SERVER_PORT=$((port + 10 + $1)) METRICS_PORT=$((port + 20 + $1)) \
        "$python" -m service serve --node "node-$1" >"$folder/out" 2>&1 &
    pids="$! $pids"
    await "$folder/service.json" "$!"
}

# Waits for a file that a program writes once it is ready.
await() {
    until [ -s "$1" ]; do
        kill -0 "$2" 2>/dev/null || exit 1
        sleep 0.1
    done
}

# The world goes last: a node that ends in order gives its slots back.
end() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    for pid in $pids; do wait "$pid" 2>/dev/null || true; done
    [ -z "${world:-}" ] || { kill "$world" 2>/dev/null || true; wait "$world" 2>/dev/null || true; }
}

main "$@"
