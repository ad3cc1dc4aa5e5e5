#!/bin/sh
# Makes the three locks from pyproject.toml; arguments (--upgrade) go to uv.
#
# The locks are universal (one file for every platform and every Python from 3.11), hashed, and name no registry.
set -eu
cd -- "$(dirname -- "$0")/.."

compile() {
    .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
        --no-emit-index-url --no-emit-find-links --no-header "$@" >/dev/null
}

compile pyproject.toml --group build --output-file requirements.lock "$@"
# Held to the versions above, so that one .venv serves both.
compile pyproject.toml --group build --group dev --constraints requirements.lock --output-file requirements-dev.lock "$@"
compile --group soak --constraints requirements-dev.lock --output-file requirements-soak.lock "$@"
