"""What a producer's names and numbers may look like."""

from broker.errors import BadRequest, TooLarge

ID_BYTES = 255
HOLDER_BYTES = 64
CURSOR_BYTES = 64 << 10
MOST_TERMS = 1 << 63  # half of what a frame holds


def check_identity(producer_id: str, term: int, holder_id: str) -> None:
    """Raises BadRequest, TooLarge."""
    check_size("producer id", producer_id.encode(), ID_BYTES)
    check_size("holder id", holder_id.encode(), HOLDER_BYTES)
    if not producer_id or producer_id.endswith("/"):
        raise BadRequest(reason='a producer id is not empty and does not end in "/"')
    if not holder_id:
        raise BadRequest(reason="a holder id is not empty")
    if term < 1:
        raise BadRequest(reason="terms begin at 1")
    if term >= MOST_TERMS:
        raise BadRequest(reason=f"{term} is no term: higher ones could not be stored")


def check_forgettable(name: str) -> None:
    """Raises BadRequest for no name, and for one so short that its tombstone would refuse a whole kind of producers."""
    check_size("producer id", name.encode(), ID_BYTES)
    if not name or (name.endswith("/") and name.count("/") < 2):
        raise BadRequest(reason='a producer id or a prefix like "run/<id>/" is needed')


def check_sequence(sequence: int) -> None:
    """Raises BadRequest."""
    if sequence < 1:
        raise BadRequest(reason="sequences begin at 1")


def check_size(what: str, data: bytes, limit: int) -> None:
    """Raises TooLarge."""
    if len(data) > limit:
        raise TooLarge(what=what, size=len(data), limit=limit)
