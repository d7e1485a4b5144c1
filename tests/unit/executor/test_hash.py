"""The hash against the table of the contract."""

from uuid import UUID

import pytest

from executor.errors import UnfitKey
from executor.sharding.hash import Id, shard_of, stable_hash


@pytest.mark.parametrize(
    ("id", "hashed", "of_8", "of_1024"),
    [
        (1, 2212294583, 7, 951),
        (42, 841265288, 0, 136),
        (10000000, 211979677, 5, 413),
        (-7, 3645828383, 7, 287),
        ("0007", 2466206161, 1, 465),
        ("5e274e7a0c3809e14aba7ad5aae0d407", 164053337, 1, 345),
    ],
)
def test_the_hash_is_that_of_the_contract(id: Id, hashed: int, of_8: int, of_1024: int) -> None:
    assert (stable_hash(id), shard_of(id, 8), shard_of(id, 1024)) == (hashed, of_8, of_1024)


def test_other_types_count_as_their_text() -> None:
    some = UUID("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6")
    assert stable_hash(some) == stable_hash("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")
    assert stable_hash(b"\xff\x00") == 3539857293
    assert stable_hash(("a", 7)) == stable_hash("a\x1f7")


@pytest.mark.parametrize("id", [True, 1.0, None, (), (1, 2.0), [1], ("a", False), "\udc80"])
def test_what_has_no_certain_text_is_refused(id: Id) -> None:
    with pytest.raises(UnfitKey, match="cannot be a key"):
        stable_hash(id)


def test_a_run_has_at_least_one_shard() -> None:
    with pytest.raises(ValueError, match="at least one"):
        shard_of(1, 0)
