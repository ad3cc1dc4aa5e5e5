"""What every event of a stream beside the escrows' has."""

import msgspec

from domain.ids import Micros


class LimitEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", forbid_unknown_fields=True):
    """Something that happened to what is shared by escrows, at a moment of its actor's clock."""

    at: Micros
