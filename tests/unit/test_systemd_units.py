"""The units for systemd call commands that there are, and name each other rightly."""

import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest

from service.__main__ import app

UNITS = Path(__file__).parents[2] / "ops" / "systemd"
PROGRAM = "/opt/thirdkey/.venv/bin/thirdkey"


def read(name: str) -> ConfigParser:
    unit = ConfigParser(interpolation=None, comment_prefixes=("#",), strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((UNITS / name).read_text())
    return unit


@pytest.mark.parametrize(
    ("name", "command"), [("thirdkey.service", "serve"), ("thirdkey-pool-scale.service", "pool_scale")]
)
def test_each_service_runs_a_command_of_this_program(name: str, command: str) -> None:
    program, *arguments = shlex.split(read(name)["Service"]["ExecStart"])
    assert program == PROGRAM
    called, _, _ = app.parse_args(arguments)
    assert called.__name__ == command


def test_the_timer_calls_the_scaling_every_five_minutes_while_the_service_runs() -> None:
    timer = read("thirdkey-pool-scale.timer")
    assert timer["Timer"]["OnUnitActiveSec"] == "5min"
    assert (UNITS / "thirdkey-pool-scale.timer").with_suffix(".service").exists()
    assert timer["Unit"]["PartOf"] == timer["Install"]["WantedBy"] == "thirdkey.service"


def test_systemd_ends_the_service_alone_and_waits_as_long_as_a_wallet_may_take() -> None:
    service = read("thirdkey.service")["Service"]
    assert service["KillMode"] == "process"
    assert int(service["TimeoutStopSec"]) > 300
