"""What every test run shares: the folders' markers and seconds, and hypothesis's profiles."""

import os

from hypothesis import HealthCheck, settings

pytest_plugins = (
    "tests.folder_seconds",
    "tests.postgres_fixtures",
    "tests.store_worlds",
    "tests.real_world",
    "tests.wallet_fixtures",  # which imports the one before
    "tests.killed_postgres",
    "tests.soak",
)

# The machine is shared, so a slow draw says nothing about the code; every bound of time is pytest-timeout's.
_shared = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# The gate answers by the code alone, the same each time; `make soak` looks for what nobody has seen yet.
settings.register_profile("gate", _shared, derandomize=True)
settings.register_profile("soak", _shared, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))
