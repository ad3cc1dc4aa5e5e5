"""The verified replay of one partition, apart from all that a process which only does this need not import."""

from domain.evolve import evolve
from domain.states import Escrow
from eventstore.api import EventLog
from eventstore.chain import GENESIS, verify_chain
from schemas.codec import decode

PAGE = 1000


async def verified_partition(log: EventLog, partition: int) -> int:
    """Reads one partition, checks its chain to the head, decodes and folds its streams; returns the events."""
    states: dict[str, Escrow] = {}
    chain, position = GENESIS, 0
    while page := await log.read_partition(partition, after_position=position, limit=PAGE):
        chain, position = verify_chain(chain, page), page[-1].position
        for each in page:
            states[each.stream_id] = evolve(
                states.get(each.stream_id), decode(type=each.type, schema_version=each.schema_version, body=each.body)
            )
    head = next(head for head in await log.heads() if head.partition == partition)
    assert (position, chain) == (head.position, head.chain), "the chain does not end at the head"
    return position
