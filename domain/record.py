"""What every state is made of."""

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a state: never changed, only replaced."""
