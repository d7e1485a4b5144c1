import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from examples.marketing.messages import InformType, Phase, PromotionMessage, PromotionType, PushMessage

texts = st.text(min_size=1, max_size=200).filter(str.strip)
messages = st.builds(
    PromotionMessage,
    promotion_id=st.integers(1, 2**62),
    promotion_type=st.sampled_from(PromotionType),
    main_message=texts,
    message=texts,
    inform_type=st.sampled_from(InformType),
)

HALF = PromotionMessage(
    promotion_id=42,
    promotion_type=PromotionType.PLATFORM_PROMOTION,
    main_message="Half price",
    message="Today only",
    inform_type=InformType.APP_PUSH,
)


@given(message=messages, user_id=st.integers(1 - 2**62, 2**62 - 1), phase=st.sampled_from(Phase))
def test_what_is_sent_is_what_a_consumer_reads(message: PromotionMessage, user_id: int, phase: Phase) -> None:
    sent = message.to(user_id, phase)
    read = PushMessage.model_validate_json(sent.body)
    assert read == PushMessage(**message.model_dump(), user_id=user_id)
    assert (sent.key, sent.tag) == (f"{message.promotion_id}:{user_id}", message.inform_type.value)
    assert sent.properties.get("phase", "rest") == phase


def test_the_wire_form_stays_as_it_is() -> None:
    assert json.loads(HALF.to(7).body) == {
        "promotion_id": 42,
        "promotion_type": "platform_promotion",
        "main_message": "Half price",
        "message": "Today only",
        "inform_type": "app_push",
        "user_id": 7,
    }


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        HALF.main_message = "Full price"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("promotion_id", 0),
        ("promotion_type", "gift"),
        ("main_message", "   "),
        ("main_message", "x" * 201),
        ("message", "x" * 2_001),
        ("inform_type", "pigeon"),
        ("colour", "red"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        PromotionMessage.model_validate({**HALF.model_dump(), field: value})
