"""What monero-wallet-rpc 0.18.0.0 answered, read by the adapter: `tests/fixtures/monero-rpc`, throw-away wallets."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from actors.monero_programs import reserved_port
from actors.ports import Destination, WalletFault, WalletRefused, WalletUnknown
from actors.wallet_rpc import HttpWallet
from tests.serving import stop_serving

RECORDINGS = Path(__file__).parent.parent / "fixtures" / "monero-rpc"
FILES = ("01-flow", "03-errors", "05-spend-b", "07-misc")

CALLS = {
    "get_version": lambda wallet, params: wallet.get_version(),
    "auto_refresh": lambda wallet, params: wallet.auto_refresh(enable=params["enable"]),
    "create_wallet": lambda wallet, params: wallet.create_wallet(params["filename"], password=params["password"]),
    "open_wallet": lambda wallet, params: wallet.open_wallet(params["filename"], password=params["password"]),
    "close_wallet": lambda wallet, params: wallet.close_wallet(),
    "store": lambda wallet, params: wallet.store(),
    "prepare_multisig": lambda wallet, params: wallet.prepare_multisig(),
    "make_multisig": lambda wallet, params: wallet.make_multisig(
        params.get("multisig_info", []), password=params.get("password", "")
    ),
    "exchange_multisig_keys": lambda wallet, params: wallet.exchange_multisig_keys(
        params["multisig_info"], password=params.get("password", "")
    ),
    "is_multisig": lambda wallet, params: wallet.is_multisig(),
    "get_address": lambda wallet, params: wallet.get_address(),
    "refresh": lambda wallet, params: wallet.refresh(),
    "get_height": lambda wallet, params: wallet.get_height(),
    "export_multisig_info": lambda wallet, params: wallet.export_multisig_info(),
    "import_multisig_info": lambda wallet, params: wallet.import_multisig_info(params["info"]),
    "transfer": lambda wallet, params: wallet.transfer([Destination(**each) for each in params["destinations"]]),
    "describe_transfer": lambda wallet, params: wallet.describe_transfer(params["multisig_txset"]),
    "sign_multisig": lambda wallet, params: wallet.sign_multisig(params["tx_data_hex"]),
    "submit_multisig": lambda wallet, params: wallet.submit_multisig(params["tx_data_hex"]),
}

# Situation (the recording's label, else the method) -> what it must mean to us.
FAULTS = {
    WalletFault.NO_WALLET_OPEN: ("no wallet open", "close twice", "A2 state", "is_multisig"),
    WalletFault.EXISTS: ("exists (open)", "exists (closed)"),
    WalletFault.OPEN_FAILED: (
        *("missing file", "open wrong pw (itself open)", "missing file, other open", "wrong pw"),
        "open in A2 while open in A",
    ),
    WalletFault.NOT_MULTISIG: ("not multisig", "not ready"),
    WalletFault.ALREADY_MULTISIG: (
        *("make twice", "prepare after make", "exchange after ready", "make after ready", "prepare after ready"),
    ),
    WalletFault.ROUND_ALREADY_DONE: ("exch1: round-1 infos", "exch1 again, same infos", "exch2: round-2 infos"),
    WalletFault.NEEDS_MORE_INFOS: ("exch1: 1 info", "exch1: none", "exch2: 1 info", "import none"),
    WalletFault.UNREADABLE_SET: ("import bad hex", "sign garbage", "sign nonhex", "submit garbage", "describe garbage"),
    WalletFault.STALE: ("sign_multisig",),
    WalletFault.CANNOT_SPEND: (
        *("before import_multisig_info", "whole balance", "more than balance", "subtract_fee_from_outputs"),
        *("zero amount", "1 more", "fee search"),
    ),
    WalletFault.NO_DAEMON: ("daemon down", "transfer offline"),
    WalletFault.OTHER: (
        *("missing language", "slash", "make: empty list", "make: corrupt char", "make: garbage", "make: truncated"),
        *("make: dup other", "make: threshold 0", "make: threshold 4", "make: wrong param name"),
        *("exch1: corrupt", "exch1: garbage", "exch1: dup", "exch1: own + other", "exch1: mixed rounds"),
        *("exch2: dup", "exch2: own+other", "exch2: corrupt"),
        *("import garbage", "import own", "import corrupted"),
    ),
}
MEANING = {label: fault for fault, labels in FAULTS.items() for label in labels}


def recorded(file: str):
    for line in (RECORDINGS / f"{file}.jsonl").read_text().splitlines():
        call = json.loads(line)
        if call.get("method") in CALLS and ("result" in call or "error" in call):
            yield call


class Replay:
    """A wallet server that gives one answer and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: dict[str, object] = {}
        self.raw: bytes | None = None
        self.status, self.url = 200, ""
        self.asked: dict[str, object] = {}

    async def handle(self, request: web.Request) -> web.Response:
        self.asked = await request.json()
        body = self.raw if self.raw is not None else json.dumps({"id": "0", "jsonrpc": "2.0", **self.answer}).encode()
        return web.Response(body=body, status=self.status, content_type="application/json")


@pytest.fixture
async def replay() -> AsyncIterator[Replay]:
    replay = Replay()
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/json_rpc", replay.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    replay.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield replay
    await stop_serving(runner)


@pytest.fixture
async def wallet(replay: Replay) -> AsyncIterator[HttpWallet]:
    wallet = HttpWallet(replay.url)
    yield wallet
    await wallet.aclose()


@pytest.mark.parametrize("file", FILES)
async def test_every_recorded_answer_is_read_for_what_it_was(file, replay, wallet):
    read = 0
    for call in recorded(file):
        replay.answer = {key: call[key] for key in ("result", "error") if key in call}
        params = call["params"] or {}
        try:
            result, fault = await CALLS[call["method"]](wallet, params), None
        except WalletRefused as refusal:
            result, fault = None, refusal
        assert replay.asked["method"] == call["method"]
        _asked_the_same(replay.asked["params"], params)
        if "error" in call:
            situation = call.get("label") or call["method"]
            _means(fault, situation, call)
        elif fault is not None:
            assert call["method"] == "transfer" and fault.fault is WalletFault.NOT_MULTISIG, "an ordinary wallet's"
        else:
            _carries(result, call)
        read += 1
    assert read > 30


def _asked_the_same(sent, was_sent):
    # These differ from the recording on purpose: the adapter sends the one value it always sends.
    fixed = {"threshold", "priority", "account_index"}
    for key in (sent.keys() & was_sent.keys()) - fixed:
        assert sent[key] == was_sent[key], key


def _means(refusal, situation, call):
    expected = MEANING[situation]
    # Asked to pay `x`, an unfinished wallet complains of the address first.
    if call["error"]["code"] == -2:
        expected = WalletFault.CANNOT_SPEND
    assert (refusal.fault, refusal.code) == (expected, call["error"]["code"]), (situation, call["error"])


def _carries(result, call):
    answer = call["result"]
    match call["method"]:
        case "transfer":
            assert (result.tx_set, result.fee, result.amount) == (
                answer["multisig_txset"],
                answer["fee"],
                answer["amount"],
            )
            assert list(result.key_images) == answer["spent_key_images"]["key_images"]
        case "describe_transfer":
            for read, given in zip(result, answer["desc"], strict=True):
                same = {name: given[name] for name in ("amount_in", "amount_out", "fee", "change_amount", "ring_size")}
                assert {name: getattr(read, name) for name in same} == same
                assert [(each.address, each.amount) for each in read.recipients] == [
                    (each["address"], each["amount"]) for each in given["recipients"]
                ]
        case "sign_multisig":
            assert (result.tx_hex, list(result.tx_hashes)) == (answer["tx_data_hex"], answer["tx_hash_list"])
        case "submit_multisig":
            assert list(result) == answer["tx_hash_list"]
        case "exchange_multisig_keys":
            assert (result.info, result.address or "") == (answer["multisig_info"], answer["address"])
        case "is_multisig":
            assert (result.multisig, result.ready, result.threshold) == tuple(
                answer[name] for name in ("multisig", "ready", "threshold")
            )
        case "make_multisig" | "prepare_multisig":
            assert result == answer["multisig_info"]
        case method if answer:
            names = {"import_multisig_info": "n_outputs", "export_multisig_info": "info", "refresh": "blocks_fetched"}
            name = names.get(method, method.removeprefix("get_"))
            assert result == answer[name]
        case _:
            assert result is None


async def test_an_answer_that_says_nothing_is_an_unknown_outcome(replay, wallet):
    for raw, status in ((b"<html>", 200), (b"", 200), (b'{"result":{"blocks_fetched":"x"}}', 200), (b"{}", 500)):
        replay.raw, replay.status = raw, status
        with pytest.raises(WalletUnknown):
            await wallet.refresh()


async def test_amounts_above_53_bits_are_read_exactly(replay, wallet):
    replay.answer = {"result": {"amount": 2**63 - 1, "fee": 2**53 + 1, "multisig_txset": "00"}}
    proposal = await wallet.transfer([])
    assert (proposal.amount, proposal.fee) == (2**63 - 1, 2**53 + 1)


async def test_nobody_listening_and_no_answer_in_time_are_unknown_outcomes(replay):
    with reserved_port() as port:
        gone = HttpWallet(f"http://127.0.0.1:{port}")
        with pytest.raises(WalletUnknown, match="unreachable"):
            await gone.refresh()
    slow = HttpWallet(replay.url, limits_s={"refresh": 0.0})
    with pytest.raises(WalletUnknown, match="time-out"):
        await slow.refresh()
    await gone.aclose()
    await slow.aclose()


async def test_the_observer_hears_of_each_call_and_never_of_what_it_carried(replay):
    heard = []
    wallet = HttpWallet(replay.url, observer=lambda *call: heard.append(call))
    replay.answer = {"result": {}}
    await wallet.open_wallet("w", password="secret")
    replay.answer = {"error": {"code": -1, "message": "Failed to open wallet"}}
    with pytest.raises(WalletRefused) as refusal:
        await wallet.open_wallet("w", password="secret")
    await wallet.aclose()
    assert [(method, done) for method, _, done in heard] == [("open_wallet", True), ("open_wallet", False)]
    assert "secret" not in repr(refusal.value) + repr(heard)


async def test_a_refused_address_is_not_quoted(replay, wallet):
    replay.answer = {"error": {"code": -2, "message": "WALLET_RPC_ERROR_CODE_WRONG_ADDRESS: 4secret"}}
    with pytest.raises(WalletRefused) as refusal:
        await wallet.transfer([])
    assert "4secret" not in str(refusal.value) + refusal.value.message


async def test_a_wallet_is_closed_saving_and_prepared_with_the_flag(replay, wallet):
    replay.answer = {"result": {}}
    await wallet.close_wallet()
    assert replay.asked["params"] == {"autosave_current": True}
    replay.answer = {"result": {"multisig_info": "M"}}
    await wallet.prepare_multisig()
    assert replay.asked["params"] == {"enable_multisig_experimental": True}
