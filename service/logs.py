"""Logs: one JSON line each on stderr, tied together by correlation ids, scrubbed of all that is secret."""

import logging
import re
import secrets
import sys
from typing import Any, TextIO

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from structlog.typing import Processor

from service.scrub import scrub

_GIVEN_ID = re.compile(r"[A-Za-z0-9-]{8,64}")


def configure_logs(*, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Sends the logs of this process, those of libraries included, to a stream (stderr)."""
    target = stream or sys.stderr
    structlog.configure(
        processors=[*_COMMON, *_LAST],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=_COMMON, processors=_FOREIGN))
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    logging.getLogger("aiohttp.server").addFilter(_kind_only)


def bind_correlation(given: str | None) -> str:
    """Ties what follows to one request: to the id its sender gave, if it has the form of one, else to a new one."""
    correlation_id = given if given and _GIVEN_ID.fullmatch(given) else secrets.token_hex(8)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(correlation_id=correlation_id)
    return correlation_id


def _kind_only(record: logging.LogRecord) -> bool:
    """Keeps of what the HTTP server could not read only what kind of fault it was: never the words of its sender.

    Seen: a body longer than its Content-Length is taken for the next request, and its text for the fault's message.
    """
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        record.msg, record.args, record.exc_info = "request_unreadable: %s", (type(error).__name__,), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True


def _as_json(record: Any, **_: object) -> str:
    return orjson.dumps(record, default=str).decode()


_COMMON: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
_LAST: list[Processor] = [
    structlog.processors.format_exc_info,
    scrub,
    structlog.processors.JSONRenderer(serializer=_as_json),
]
_FOREIGN: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_LAST]
