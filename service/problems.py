"""Problems: every code with its HTTP status, in one table, and the answers made of them."""

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from actors.directory import DirectoryFull, Parked
from actors.escrow import KeyReused, Rejected
from actors.mail import ActorStopped, AskTimeout, MailboxFull
from actors.picture.kinds import BadPicture
from domain.evolve import ImpossibleHistory
from domain.refusals import SENTENCES, Refused
from eventstore.api import LogBusy, LogUnavailable, Shredded
from eventstore.evidence import EvidenceUnavailable, EvidenceWrong
from schemas.codec import UnknownEvent
from schemas.problems import CONTENT_TYPE, Problem
from service.auth import TokenRefused
from service.pool_size import NoPool

STATUS: Mapping[str, int] = {
    # refusals of the domain
    "address_change_pending": 409,
    "agreement_none": 404,
    "agreement_own": 403,
    "already_broadcast": 409,
    "already_confirmed": 409,
    "already_given": 409,
    "arbiter_not_ready": 409,
    "amount_invalid": 422,
    "amounts_changed": 409,
    "backup_invalid": 409,
    "backup_missing": 409,
    "bp_invalid": 422,
    "case_closed": 409,
    "case_exists": 409,
    "deadline_invalid": 422,
    "deposit_seen": 409,
    "dispute_open": 409,
    "epoch_in_progress": 409,
    "escrow_exists": 409,
    "limit_amount": 422,
    "limit_concurrency": 503,
    "limit_volume": 422,
    "maintenance": 503,
    "message_unknown": 422,
    "messages_full": 409,
    "no_case": 404,
    "no_such_escrow": 404,
    "no_such_photo": 404,
    "not_a_party": 403,
    "not_awaited": 409,
    "not_of_the_case": 403,
    "not_shipped": 409,
    "not_the_arbiter": 403,
    "not_the_buyer": 403,
    "not_the_vendor": 403,
    "not_closed": 409,
    "nothing_due": 409,
    "nothing_to_pay": 409,
    "order_live": 409,
    "payout_address_missing": 409,
    "payout_address_is_escrow": 422,
    "photo_known": 409,
    "photos_full": 409,
    "placeholder_address": 422,
    "proposal_invalid": 409,
    "reason_required": 422,
    "retention_runs": 409,
    "roster_full": 409,
    "seat_taken": 409,
    "secrets_shredded": 410,
    "slots_busy": 503,
    "three_must_differ": 422,
    "unsettled": 409,
    "view_outdated": 409,
    "wallet_other": 409,
    "wrong_state": 409,
    # what the doors themselves refuse
    "address_checksum": 422,
    "address_integrated": 422,
    "address_malformed": 422,
    "address_network": 422,
    "address_placeholder": 422,
    "batch_too_long": 422,
    "body_malformed": 400,
    "body_slow": 408,
    "body_too_large": 413,
    "bundle_too_long": 422,
    "busy": 503,
    "conflict_of_interest": 409,
    "cursor_invalid": 400,
    "delegate_unknown": 422,
    "drafts_full": 409,
    "escrow_stopped": 503,
    "event_unknown": 503,
    "evidence_unavailable": 503,
    "evidence_wrong": 502,
    "form_foreign": 403,
    "form_malformed": 400,
    "idempotency_key_invalid": 422,
    "idempotency_key_reused": 422,
    "internal": 500,
    "login_needed": 401,
    "login_spent": 401,
    "login_too_often": 429,
    "media_type": 415,
    "method_not_allowed": 405,
    "no_arbiter": 503,
    "no_slots": 404,
    "no_such_case": 404,
    "no_such_slot": 404,
    "not_found": 404,
    "order_repeated": 422,
    "picture_broken": 422,
    "picture_empty": 422,
    "picture_kind": 415,
    "picture_pixels": 422,
    "picture_polyglot": 422,
    "picture_too_hard": 422,
    "picture_too_large": 413,
    "pool_size_invalid": 422,
    "pool_unknown": 503,
    "request_invalid": 400,
    "right_missing": 403,
    "rpc_config_wrong": 422,
    "seat_kind_unavailable": 422,
    "setup_ended": 409,
    "signature_invalid": 422,
    "signature_required": 422,
    "slots_not_ours": 409,
    "streams_full": 503,
    "streams_of_user": 429,
    "token_expired": 401,
    "token_invalid": 401,
    "token_missing": 401,
    "unavailable": 503,
    "validation": 422,
}

DOOR_SENTENCES: Mapping[str, str] = {
    "address_checksum": "The checksum of this address is wrong.",
    "address_integrated": "An integrated address cannot be paid out to.",
    "address_malformed": "This is not a Monero address.",
    "address_network": "This address belongs to another network.",
    "address_placeholder": "Nobody holds the key of this address: money sent to it would be lost.",
    "batch_too_long": "A batch holds as many orders as this service accepts at once; send the rest in another.",
    "body_malformed": "The body is not valid JSON.",
    "body_slow": "The body took too long to arrive.",
    "body_too_large": "The body is larger than this service accepts.",
    "bundle_too_long": "This escrow has more events than a bundle may hold; an auditor can read the whole log.",
    "busy": "The service has as much to do as it takes on at once; try again shortly.",
    "conflict_of_interest": "The arbiter has declared to be no judge of one of the parties.",
    "cursor_invalid": "This is not a cursor of this service.",
    "delegate_unknown": "Only an arbiter of this service, or one of its delegates, can stand in.",
    "drafts_full": "There are as many drafts in this case as its arbiter, or all its assistants together, may write.",
    "escrow_stopped": "This escrow is stopped until an operator has looked at it; nothing is lost.",
    "event_unknown": "This escrow has an event that only a newer version of the service can read; nothing is lost.",
    "evidence_unavailable": "The store of evidence does not answer now, or has not got this; nothing was changed.",
    "evidence_wrong": "The store of evidence gave other bytes than those it was given; nothing of them is used.",
    "form_foreign": "This form did not come from this page, or the page is an old one: load it again.",
    "form_malformed": "This is not a form of these pages.",
    "idempotency_key_invalid": "An Idempotency-Key is 1 to so many visible ASCII characters.",
    "idempotency_key_reused": "This Idempotency-Key was used before with another body.",
    "internal": "Something went wrong inside the service; nothing more is known to the outside.",
    "login_needed": "Please log in first: the login has ended, or there was none.",
    "login_spent": "This login link was used before; each is good for one login. Please ask for another.",
    "login_too_often": "Too many logins failed from here; please wait a minute.",
    "media_type": "The body is not of the media type that is expected here.",
    "method_not_allowed": "This address does not know this method.",
    "no_arbiter": "No arbiter is free for this order now: away, in conflict, or not heard of lately.",
    "no_slots": "This service has no wallet slots.",
    "no_such_case": "There is no such case.",
    "no_such_slot": "There is no wallet slot of this name.",
    "not_found": "There is nothing at this address.",
    "order_repeated": "This order stands in the batch before; the first one counts.",
    "picture_broken": "This picture cannot be read to its end.",
    "picture_empty": "The file is empty.",
    "picture_kind": "By its content this is not a picture of a kind that is taken here.",
    "picture_pixels": "The picture has more pixels than this service takes apart.",
    "picture_polyglot": "The file is more than a picture: another program would find something of its own in it.",
    "picture_too_hard": "Taking this picture apart took more time or memory than a picture should.",
    "picture_too_large": "The picture's file is larger than this service accepts.",
    "pool_size_invalid": "There cannot be so many wallet processes here; nothing was changed.",
    "pool_unknown": "The data folder does not say how many wallet processes there are: start its world again.",
    "request_invalid": "The request is not one this service understands.",
    "right_missing": "The token does not carry the right to do this.",
    "rpc_config_wrong": "The configured wallet processes cannot be used; nothing was changed.",
    "seat_kind_unavailable": "Nobody could take a seat of this kind on this installation.",
    "setup_ended": "The set-up ended without an address; the order may be tried again.",
    "signature_invalid": "The signature is not the arbiter's seat's, or not over this decision.",
    "signature_required": "The arbiter's seat is not hosted here: its own key signs the decision.",
    "slots_not_ours": "The wallet processes are not the service's own: it starts and ends none of them.",
    "streams_full": "This node streams to as many sockets as it takes on at once; try again shortly.",
    "streams_of_user": "This user streams to as many sockets as one user may.",
    "token_expired": "The token has expired.",
    "token_invalid": "The token is not one of this service's issuer.",
    "token_missing": "This needs a bearer token.",
    "unavailable": "The service cannot answer now; whether the command was followed is shown by repeating it.",
    "validation": "A field is missing, unknown or not of the form it must have.",
}


class Refusal(Exception):
    """Ends a request with a problem; changes nothing."""

    def __init__(self, code: str, *, detail: str = "", facts: Mapping[str, str | int] | None = None) -> None:
        super().__init__(code)
        self.code, self.detail, self.facts = code, detail, dict(facts or {})


def problem(code: str, *, detail: str = "", facts: Mapping[str, str | int] | None = None) -> Problem:
    """Makes the problem of a code."""
    title = SENTENCES.get(code) or DOOR_SENTENCES[code]
    return Problem(status=STATUS[code], code=code, title=title, detail=detail, facts=dict(facts or {}))


def problem_of(error: BaseException) -> Problem:
    """Finds the problem that an exception stands for; what nobody expected is `internal`, without a word more."""
    match error:
        case Refusal():
            return problem(error.code, detail=error.detail, facts=error.facts)
        case TokenRefused():
            return problem(error.code)
        case KeyReused():
            return problem("idempotency_key_reused")
        case LogBusy() | MailboxFull() | DirectoryFull():
            return problem("busy")
        case Shredded():
            return problem("secrets_shredded")
        case UnknownEvent() | Parked(failure=UnknownEvent()):
            return problem("event_unknown")
        case Parked() | ImpossibleHistory():
            return problem("escrow_stopped")
        case BadPicture():
            return problem(error.code, facts=error.facts)
        case EvidenceUnavailable():
            return problem("evidence_unavailable")
        case EvidenceWrong():
            return problem("evidence_wrong")
        case NoPool():
            return problem("pool_unknown")
        case LogUnavailable() | AskTimeout() | ActorStopped():
            return problem("unavailable")
        case web.HTTPException():
            return problem(_CODE_OF_STATUS.get(error.status, "request_invalid"))
        case _:
            return problem("internal")


def refuse(refused: Rejected | Refused) -> Refusal:
    """Turns a refusal of the domain into the end of the request."""
    return Refusal(refused.code, facts=refused.facts)


def response(of: Problem, *, retry_after_s: int) -> web.Response:
    """Writes a problem; a 503 says when to come back, a 401 how to identify oneself."""
    headers: dict[str, str] = {}
    if of.status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(retry_after_s)
    if of.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(status=of.status, body=msgspec.json.encode(of), content_type=CONTENT_TYPE, headers=headers)


_CODE_OF_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 415: "media_type"}
