#!/bin/sh
# Makes requirements.lock and requirements-dev.lock from pyproject.toml; arguments (--upgrade) go to uv.
#
# The locks are universal (one file for every platform and every Python from 3.11), hashed, and name no registry.
set -eu
cd -- "$(dirname -- "$0")/.."

compile() {
    .venv/bin/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header "$@" >/dev/null
}

compile --group build --output-file requirements.lock "$@"
# Held to the versions above, so that one .venv serves both.
compile --group build --group dev --constraints requirements.lock --output-file requirements-dev.lock "$@"
