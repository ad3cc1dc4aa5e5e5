#!/bin/sh
# Makes this clone able to run: the machine's programs by apt, Python packages from the hashed lock into .venv.
#
#   ops/install.sh               what the service and the demo need
#   ops/install.sh --dev         what the checks and the tests need as well
#   ops/install.sh --soak        what `make soak` needs beside that
#   ops/install.sh --no-monero   leaves out Monero's programs (enough for the checks)
#   ops/install.sh --system      only the machine's programs
#
# Repeat it freely: with nothing to do it takes a fraction of a second, and it mends what an interrupted
# install or a renamed folder left behind.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
venv=$root/.venv
unfinished=$venv/.unfinished
lock=requirements.lock
stamp=$venv/.installed
want_monero=yes
want_packages=yes
want_soak=no

main() {
    read_arguments "$@"
    one_at_a_time
    python=$(find_python)
    missing=$(missing_debs)
    [ -z "$missing" ] || install_debs "$missing"
    [ "$want_monero:$lock" != yes:requirements-dev.lock ] || bring_for_tests
    [ "$want_packages" = yes ] || return 0
    if ! venv_is_sound || [ "$(cat "$stamp" 2>/dev/null)" != "$(fingerprint)" ]; then
        install_packages
    fi
    [ "$want_soak" = no ] || pip_install requirements-soak.lock
}

read_arguments() {
    for argument in "$@"; do
        case $argument in
            --dev) lock=requirements-dev.lock stamp=$venv/.installed-dev ;;
            --soak) lock=requirements-dev.lock stamp=$venv/.installed-dev want_soak=yes ;;
            --no-monero) want_monero=no ;;
            --system) want_packages=no ;;
            *) stop "ops/install.sh knows --dev, --soak, --no-monero and --system, not '$argument'." ;;
        esac
    done
}

# Two installs into one .venv would break each other. The lock is the folder itself, so no file is left behind.
one_at_a_time() {
    if command -v flock >/dev/null 2>&1; then
        exec 9<"$root"
        flock 9
    fi
}

# Prints the interpreter to use, or nothing. The distribution's own comes first: it is the one the tests ran on.
find_python() {
    for candidate in /usr/bin/python3.11 python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
}

missing_debs() {
    if [ -z "$python" ]; then
        echo python3-venv
    elif ! venv_is_sound && ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        deb_of_venv
    fi
    if [ "$want_monero" = yes ]; then
        if ! have monerod || ! have monero-wallet-rpc; then echo monero; fi
    fi
}

# Debian splits ensurepip off. python3-venv serves the default python3; any other version has its own package.
deb_of_venv() {
    own=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    default=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)
    if [ "$own" = "$default" ]; then echo python3-venv; else echo "python$own-venv"; fi
}

install_debs() {
    debs=$(echo "$1" | tr '\n' ' ' | sed 's/ *$//')
    have apt-get || stop "This machine has no apt. Install these yourself: Python 3.11 or newer with its venv and" \
        "ensurepip modules, monerod and monero-wallet-rpc (0.18). Missing here: $debs."
    if [ "$(id -u)" = 0 ]; then
        say "Installing $debs by apt."
        apt_install env
    elif have sudo && sudo -n true >/dev/null 2>&1; then
        say "Installing $debs by apt, with sudo."
        apt_install sudo -n env
    else
        stop "Missing: $debs. Run this one command, then try again:" "    $(command_for_root)"
    fi
    python=$(find_python)
    [ -n "$python" ] || stop "Python 3.11 or newer is needed, and apt brought none."
    still=$(missing_debs | tr '\n' ' ')
    [ -z "$still" ] || stop "apt reported success, but this is still missing: $still"
}

# Takes the words that make a command run as root. The package lists are fetched only when installing fails without,
# so the first complaint is kept back: a fresh machine has no lists, and the second try says what is really wrong.
apt_install() {
    # shellcheck disable=SC2086  # lists of words
    "$@" $apt_get install $debs </dev/null >/dev/null 2>&1 || {
        "$@" $apt_get update </dev/null >/dev/null
        "$@" $apt_get install $debs </dev/null >/dev/null
    }
}
apt_get='DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 --no-install-recommends'

# Two folders of tests run programs of the distribution: HAProxy before several nodes, chromium through the pages. Where one
# is missing and apt brings none, the tests that need it are skipped.
bring_for_tests() {
    debs=''
    have haproxy || [ -x /usr/sbin/haproxy ] || debs=haproxy
    have chromium || debs="$debs chromium"
    debs=${debs# }
    if [ -z "$debs" ] || ! have apt-get; then return 0; fi
    apt_get="$apt_get -o Acquire::Retries=0 -o Acquire::http::Timeout=15"
    if [ "$(id -u)" = 0 ]; then
        apt_install env || say "apt brings not all of $debs: the tests that need them are skipped."
    elif have sudo && sudo -n true >/dev/null 2>&1; then
        apt_install sudo -n env || say "apt brings not all of $debs: the tests that need them are skipped."
    else
        say "The tests that need $debs are skipped until this was run:" "    $(command_for_root)"
    fi
}

command_for_root() {
    both="apt-get update && apt-get install -y --no-install-recommends $debs"
    if have sudo; then echo "sudo sh -c '$both'"; else echo "su - -c '$both'"; fi
}

# Whole, made in this very folder, and by an interpreter that still runs. A .venv that somebody made by hand will do.
venv_is_sound() {
    [ ! -e "$unfinished" ] &&
        grep -qF "$venv/bin/python" "$venv/bin/pip" 2>/dev/null &&
        "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# Everything that, changed, asks for another install.
fingerprint() {
    (cd "$root" && cat requirements.lock requirements-dev.lock pyproject.toml ops/install.sh) |
        "$venv/bin/python" -c 'import hashlib, sys
where = f"{sys.version} {sys.prefix}".encode()
print(hashlib.sha256(where + sys.stdin.buffer.read()).hexdigest())'
}

install_packages() {
    unset PYTHONHOME PYTHONPATH
    if ! venv_is_sound; then
        say "Making .venv with $python."
        rm -rf "$venv"
        mkdir "$venv"
        : >"$unfinished"
        "$python" -m venv "$venv"
    fi
    : >"$unfinished"
    rm -f "$venv/.installed" "$venv/.installed-dev"
    say "Installing the Python packages of $lock."
    pip_install "$lock"
    pip --no-deps --no-build-isolation --editable "$root"
    rm -f "$unfinished"
    fingerprint >"$venv/.installed"
    # The development lock holds the other one whole, so what serves the tests serves the demo.
    [ "$lock" = requirements.lock ] || fingerprint >"$stamp"
}

pip_install() { pip --require-hashes --only-binary :all: -r "$root/$1"; }
pip() {
    env -u PYTHONHOME -u PYTHONPATH -u PIP_TARGET -u PIP_PREFIX -u PIP_USER \
        PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1 \
        "$venv/bin/python" -m pip install --quiet "$@"
}
have() { command -v "$1" >/dev/null 2>&1; }
say() { printf '%s\n' "$@" >&2; }
stop() {
    for line in "$@"; do echo "$line" >&2; done
    exit 1
}

main "$@"
