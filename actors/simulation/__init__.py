"""A chain and wallets in memory that behave like the recorded ones: deterministic, fast, with faults on order.

Measured behaviour (monerod and monero-wallet-rpc 0.18.0.0, private chain) is reproduced where an agent can notice it;
there is no cryptography in it beyond addresses and view keys, so nothing here is secret.
"""

from actors.simulation.chain import SimChain, SimOutput, SimTx
from actors.simulation.daemon import SimDaemon, SimWatch
from actors.simulation.faults import Fault, Faults
from actors.simulation.files import SimFiles, SimFolder
from actors.simulation.wallet import SimWallet

__all__ = [
    "Fault",
    "Faults",
    "SimChain",
    "SimDaemon",
    "SimFiles",
    "SimFolder",
    "SimOutput",
    "SimTx",
    "SimWallet",
    "SimWatch",
]
