"""Names and numbers of producers that are refused before anything is decided."""

import pytest

from broker.errors import BadRequest, ShardcastError, TooLarge
from broker.producers.limits import check_forgettable, check_identity, check_sequence


@pytest.mark.parametrize(
    ("producer_id", "term", "holder_id", "refusal"),
    [
        ("", 1, "h", BadRequest),
        ("run/r/", 1, "h", BadRequest),
        ("run/r/0", 0, "h", BadRequest),
        ("group/g/t/0", (1 << 64) - 1, "h", BadRequest),  # a reset of the group counts on
        ("run/r/0", 1, "", BadRequest),
        ("é" * 128, 1, "h", TooLarge),
        ("run/r/0", 1, "h" * 65, TooLarge),
    ],
)
def test_an_identity_that_cannot_be_is_refused(
    producer_id: str, term: int, holder_id: str, refusal: type[ShardcastError]
) -> None:
    with pytest.raises(refusal):
        check_identity(producer_id, term, holder_id)


def test_sequences_begin_at_1() -> None:
    check_sequence(1)
    with pytest.raises(BadRequest):
        check_sequence(0)


@pytest.mark.parametrize("name", ["", "/", "run/"])
def test_a_whole_kind_of_producers_cannot_be_forgotten(name: str) -> None:
    with pytest.raises(BadRequest):
        check_forgettable(name)


@pytest.mark.parametrize("name", ["run/r/", "run/r/0", "producer"])
def test_a_run_or_a_producer_can_be_forgotten(name: str) -> None:
    check_forgettable(name)
