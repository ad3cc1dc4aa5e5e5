#!/bin/sh
# Repeats what `make test` does a little of, until the minutes are over: first every trial marked `soak` (half of the
# minutes, shared among them), then the random tests with new seeds. What each trial came to, of how much, is told at the
# very end, however that comes.
#
# Each round's seed is printed and exported as SIM_SEED; the first failing round ends it with pytest's exit code.
# To see that round again: SIM_SEED=<seed> HYPOTHESIS_PROFILE=soak .venv/bin/python -m pytest tests/simulation tests/unit --hypothesis-seed=<seed>
set -eu
cd -- "$(dirname -- "$0")/.."

minutes=${1:-10}
end=$(($(date +%s) + minutes * 60))
report=$(mktemp)
trap 'echo "soak: done of the repeated trials:"; cat "$report"; rm -f "$report"' EXIT
trials=$(.venv/bin/python -m pytest -q --collect-only -m soak tests | grep -c '::')
echo "soak: $trials trials, $((minutes * 30 / trials)) seconds each"
SOAK_REPORT=$report SOAK_SECONDS=$((minutes * 30 / trials)) .venv/bin/python -m pytest -q -m soak tests

rounds=0
while [ "$(date +%s)" -lt "$end" ]; do
    SIM_SEED=$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')
    HYPOTHESIS_PROFILE=soak
    export SIM_SEED HYPOTHESIS_PROFILE
    rounds=$((rounds + 1))
    echo "soak: round $rounds, seed $SIM_SEED"
    timeout $((end - $(date +%s) + 300)) .venv/bin/python -m pytest -n 2 -q \
        tests/simulation tests/unit -m "simulation or hypothesis" --hypothesis-seed="$SIM_SEED"
done
echo "soak: $rounds rounds without a failure in $minutes minutes"
