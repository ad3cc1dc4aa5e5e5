#!/bin/sh
# Repeats the random tests (simulation, and hypothesis in tests/unit) with new seeds until the minutes are over.
#
# Each round's seed is printed and exported as SIM_SEED; the first failing round ends it with pytest's exit code.
# To see that round again: SIM_SEED=<seed> HYPOTHESIS_PROFILE=soak .venv/bin/python -m pytest tests/simulation tests/unit --hypothesis-seed=<seed>
set -eu
cd -- "$(dirname -- "$0")/.."

minutes=${1:-10}
end=$(($(date +%s) + minutes * 60))
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
