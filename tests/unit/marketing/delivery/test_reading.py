"""Reading fast gives what full validation gives, for any body."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from examples.marketing.delivery.reading import MAX_BYTES, MOST_HEADS, Reader
from examples.marketing.messages import InformType, PromotionMessage, PromotionType, PushMessage

HALF = PromotionMessage(
    promotion_id=42,
    promotion_type=PromotionType.PLATFORM_PROMOTION,
    main_message="Half price",
    message='say ,"user_id":7} and be glad',
    inform_type=InformType.APP_PUSH,
)
HEAD = HALF.head

texts = st.one_of(
    st.text('ab \\",:{}é', max_size=20),
    st.sampled_from([',"user_id":', '","user_id":5}', "\\", '\\",\\"user_id\\":1', " x ", "é" * 5, "\ud7ff"]),
)
fields = st.fixed_dictionaries(
    {
        "promotion_id": st.one_of(st.integers(-1, 3), st.just(2**63)),
        "promotion_type": st.sampled_from([*PromotionType, "gift"]),
        "main_message": texts,
        "message": texts,
        "inform_type": st.sampled_from([*InformType, "pigeon"]),
    }
)
ids = st.one_of(st.integers(-3, 12), st.integers(), st.sampled_from([10**17, 10**18, 2**63 - 1, 2**63]))
tails = st.sampled_from(
    [b"7}", b"07}", b"00}", b"0}", b"-0}", b"-5}", b"7 }", b" 7}", b"7}}", b"7}\n", b"}", b"", b"75", b"1e2}", b"7.0}"]
)
odd_tails = st.sampled_from(
    [b'"7"}', b"null}", b"true}", b'7,"user_id":8}', b"7,}", b"[7]}", b"1_0}", "٧}".encode(), b'7,"colour":1}', b"+7}"]
)


@st.composite
def written(draw: st.DrawFn) -> bytes:
    """A body in its own order of fields, with its own spaces, perhaps with a key twice, perhaps cut."""
    given_fields = draw(fields) | {"user_id": draw(ids)}
    names = draw(st.one_of(st.just(list(given_fields)), st.permutations(list(given_fields))))
    if draw(st.integers(0, 9)) == 0:
        names = names[:-1]
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    pairs = [json.dumps({name: given_fields[name]}, separators=separators)[1:-1] for name in names]
    if draw(st.integers(0, 9)) == 0:
        pairs.append(f'"user_id":{draw(ids)}')
    return ("{" + separators[0].join(pairs) + "}").encode("utf-8", "surrogatepass")


canonical = st.builds(
    lambda promotion_id, user: HEAD.replace(b"42", b"%d" % promotion_id) + b"%d}" % user, st.integers(1, 3), ids
)
bodies = st.one_of(written(), canonical, st.builds(HEAD.__add__, tails | odd_tails), st.binary(max_size=40))


def in_full(body: bytes) -> PushMessage | None:
    try:
        return PushMessage.model_validate_json(body) if len(body) <= MAX_BYTES else None
    except ValidationError:
        return None


def read(reader: Reader, given_bodies: list[bytes]) -> list[PushMessage | None]:
    mail = reader.read(given_bodies)
    found: dict[int, PushMessage | None] = dict.fromkeys(mail.unreadable)
    for letters in mail.letters:
        assert type(letters.message) is PromotionMessage
        assert letters.indexes == sorted(letters.indexes)
        for index, user_id in zip(letters.indexes, letters.user_ids, strict=True):
            assert index not in found
            found[index] = PushMessage(**letters.message.model_dump(), user_id=user_id)
    return [found[index] for index in range(len(given_bodies))]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(bodies, max_size=8))
@example([HEAD + b"1}", HEAD + b"01}", HEAD + b"1}}", HEAD + b"2}"])
@example([HEAD + b"1}", b'{"user_id":5,' + HEAD[1:] + b"2}", HEAD + b"3}"])
@example([HEAD + b"1}", HEAD + b"75", HEAD + b"7 ", HEAD + b"7]"])
@example([HEAD.rjust(MAX_BYTES - 2) + b"1}", HEAD.rjust(MAX_BYTES - 2) + b"12}"])
@example([HEAD + b"%d}" % 2**63, HEAD + b"1}", HEAD + b"99999999999999999999}"])
@example([HEAD.replace(b"Half", b"\xff\xfe") + b"1}"] * 2)
def test_what_is_read_is_what_full_validation_gives(given_bodies: list[bytes]) -> None:
    reader = Reader()
    wanted = [in_full(body) for body in given_bodies]
    assert read(reader, given_bodies) == wanted
    assert read(reader, given_bodies[::-1]) == wanted[::-1], "also when the heads are known"


def test_a_text_that_looks_like_the_end_of_the_head_is_text() -> None:
    [letters] = Reader().read([HALF.to(1).body, HALF.to(2).body]).letters
    assert (letters.message, letters.user_ids) == (HALF, [1, 2])


def test_letters_of_one_promotion_come_together_whatever_lies_between() -> None:
    other = HALF.model_copy(update={"promotion_id": 43})
    given_bodies = [HALF.to(1).body, PromotionMessage(**other.model_dump()).to(2).body, b"{", HALF.to(3).body]
    mail = Reader().read(given_bodies)
    assert [(letters.message.promotion_id, letters.indexes) for letters in mail.letters] == [(42, [0, 3]), (43, [1])]
    assert list(mail.unreadable) == [2]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "JSON"),
        (HEAD + b"7", "JSON"),
        (HEAD.replace(b"app_push", b"pigeon") + b"7}", "inform_type"),
        (HEAD + b'7,"colour":1}', "colour"),
        (HEAD + b"null}", "user_id"),
        (HEAD + b"7}" + b" " * MAX_BYTES, "8192 is the limit"),
    ],
)
def test_what_is_no_push_message_has_a_reason(body: bytes, reason: str) -> None:
    reader = Reader()
    for _ in range(2):
        [told] = reader.read([HEAD + b"7}", body]).unreadable.values()
        assert reason in told


def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not() -> None:
    body = HALF.to(1).body
    mail = Reader().read([body, body.rjust(MAX_BYTES), body.rjust(MAX_BYTES + 1)])
    assert [(letters.message, letters.indexes) for letters in mail.letters] == [(HALF, [0]), (HALF, [1])]
    assert list(mail.unreadable) == [2]


def test_memory_of_heads_is_bounded() -> None:
    reader = Reader()
    many = [PromotionMessage(**{**HALF.model_dump(), "promotion_id": number}) for number in range(1, 3 * MOST_HEADS)]
    mail = reader.read([each.to(1).body for each in many])
    assert [letters.message for letters in mail.letters] == many
    assert len(reader._heads) <= MOST_HEADS
