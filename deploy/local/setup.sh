#!/usr/bin/env bash
# Makes or completes a virtual environment from a lock: setup.sh VENV LOCK. Called by the Makefile when they changed.
# Nothing is solved here (--no-deps) and nothing unhashed is taken (--require-hashes).
set -euo pipefail

venv=$1
lock=$2
python=${PYTHON:-python3}
say() { printf '%s\n' "$*" >&2; }

command -v "$python" >/dev/null || {
    say "setup: $python is not installed; Longbox needs Python 3.11 or newer (or: make setup PYTHON=/path/to/python)"
    exit 2
}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    say "setup: $("$python" --version 2>&1) is too old; Longbox needs 3.11 or newer (make setup PYTHON=/path/to/python3.11)"
    exit 2
}
# an environment whose Python went away, or that was moved, is made anew
if [ -e "$venv" ] && ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    rm -rf "$venv"
fi
if [ ! -e "$venv" ]; then
    "$python" -c 'import venv, ensurepip' 2>/dev/null || {
        say "setup: this Python has no venv; on Debian and Ubuntu install it with: apt-get install python3-venv"
        exit 2
    }
    say "setup: making $venv with $("$python" --version 2>&1)"
    "$python" -m venv "$venv" || {
        rm -rf "$venv"
        say "setup: could not make $venv; on Debian and Ubuntu python3-venv may be missing"
        exit 2
    }
fi

pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet --no-input)
part=$(mktemp "${TMPDIR:-/tmp}/longbox-pip.XXXXXX")
trap 'rm -f "$part"' EXIT

# pip itself first: the pip of older distributions needs twice the time for the rest
sed -n '/^pip==/,/[^\\]$/p' "$lock" >"$part"
wanted=$(sed -n 's/^pip==\([^ ]*\).*/\1/p' "$part")
if [ "$("$venv/bin/python" -c 'import pip; print(pip.__version__)')" != "$wanted" ]; then
    "${pip[@]}" install --no-deps --no-compile --require-hashes -r "$part"
fi
say "setup: installing $(grep -c == "$lock") packages of $lock"
"${pip[@]}" install --no-deps --no-compile --require-hashes -r "$lock"
# what setuptools says of editable installs in general is shown only if this one fails
"${pip[@]}" install --no-deps --no-build-isolation --editable . >"$part" 2>&1 || { cat "$part" >&2; exit 1; }
say "setup: done, the command is $venv/bin/longbox"
