from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.marketing.fanout.buckets import BUCKET_IDS, MOST_PIECES, canaries, ids_in, is_canary, others, split
from examples.marketing.messages import Phase, UserBucket
from shardcast import stable_hash


def bucket(first_id: int, last_id: int) -> UserBucket:
    return UserBucket(promotion_id=42, phase=Phase.CANARY, first_id=first_id, last_id=last_id)


MOST = 2**62 - 1
ids = st.integers(-MOST, MOST)
ranges = st.one_of(
    st.builds(bucket, ids, ids),
    st.builds(lambda first, width: bucket(first, min(first + width, MOST)), ids, st.integers(-1, 10**7)),
    st.builds(
        lambda first, width: bucket(first, min(first + width, MOST)), ids, st.sampled_from([0, 998, 999, 1_000, 99_999])
    ),
)


def leaves(given: UserBucket) -> list[UserBucket]:
    if ids_in(given) <= BUCKET_IDS:
        return split(given)
    return [leaf for piece in split(given) for leaf in leaves(piece)]


@given(given=ranges)
def test_pieces_cover_a_range_exactly_once_and_are_smaller(given: UserBucket) -> None:
    pieces = split(given)
    assert len(pieces) <= MOST_PIECES
    assert bool(pieces) == (given.first_id <= given.last_id)
    if pieces:
        assert (pieces[0].first_id, pieces[-1].last_id) == (given.first_id, given.last_id)
        assert all(before.last_id + 1 == after.first_id for before, after in pairwise(pieces))
        assert all(piece.first_id <= piece.last_id for piece in pieces)
        assert {(piece.promotion_id, piece.phase) for piece in pieces} == {(42, Phase.CANARY)}
    if ids_in(given) > BUCKET_IDS:
        assert len(pieces) > 1
        assert all(ids_in(piece) % BUCKET_IDS == 0 for piece in pieces[:-1])


@given(given=ranges, choice=st.randoms(use_true_random=False))
def test_whichever_piece_is_split_on_soon_ends_in_a_bucket(given: UserBucket, choice: object) -> None:
    depth = 0
    while ids_in(given) > BUCKET_IDS:
        given = choice.choice(split(given))  # type: ignore[attr-defined]
        depth += 1
    assert depth <= 9  # of 2**63 ids


@given(first=ids, width=st.integers(1, 250_000))
def test_buckets_cover_a_range_exactly_once(first: int, width: int) -> None:
    first = min(first, MOST - width)
    found = leaves(bucket(first, first + width - 1))
    assert sum(map(ids_in, found)) == width
    assert all(1 <= ids_in(leaf) <= BUCKET_IDS for leaf in found)
    assert len(found) == -(-width // BUCKET_IDS)
    assert sorted(leaf.first_id for leaf in found) == [leaf.first_id for leaf in found]


def test_ten_million_users_are_ten_thousand_buckets_after_two_splits() -> None:
    first = split(bucket(1, 10_000_000))
    assert [len(first), *{ids_in(piece) for piece in first}] == [100, 100_000]
    second = split(first[7])
    assert [len(second), *{ids_in(piece) for piece in second}] == [100, 1_000]


def test_nobody_is_no_bucket() -> None:
    assert split(bucket(0, -1)) == []


@given(user_ids=st.lists(ids, unique=True, max_size=50), share=st.floats(0.01, 0.99))
def test_each_user_is_a_canary_or_not(user_ids: list[int], share: float) -> None:
    chosen, rest = canaries(42, user_ids, share), others(42, user_ids, share)
    assert sorted(chosen + rest) == sorted(user_ids)
    assert all(is_canary(42, each, share) for each in chosen)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_canaries_are_about_their_share_and_others_in_each_promotion(share: float) -> None:
    chosen = canaries(42, range(20_000), share)
    assert len(chosen) / 20_000 == pytest.approx(share, rel=0.15)
    assert set(chosen) != set(canaries(43, range(20_000), share))


def test_who_is_a_canary_follows_from_the_public_hash() -> None:
    assert stable_hash("42:7") == 3_841_391_202
    assert [is_canary(42, 7, share) for share in (0.1202, 0.1203)] == [False, True]
