from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from examples.marketing.errors import BadRequest
from examples.marketing.personas.conditions import DEEPEST, MOST_LEAVES, Audience, Condition, NotOf, Span
from examples.marketing.personas.sql import matches
from examples.marketing.settings import faults

AUDIENCE: TypeAdapter[Condition] = TypeAdapter(Audience)
NOW = datetime(2026, 12, 1, tzinfo=UTC)
ADULT = {"field": "age", "least": 18}


def nested(depth: int) -> object:
    condition: object = ADULT
    for _ in range(depth - 1):
        condition = {"not": condition}
    return condition


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            {"field": "shoe_size", "least": 1},
            (
                "field: Input tag 'shoe_size' found using 'field' does not match any of the expected tags: "
                "'age', 'spent_90d_cents', 'level', 'city', 'tags', 'last_order'."
            ),
        ),
        ({"field": "age", "least": "18"}, "field.age.least: Input should be a valid integer."),
        ({"field": "age", "least": True}, "field.age.least: Input should be a valid integer."),
        ({"field": "age"}, "field.age: give least, most, or both."),
        ({"field": "age", "least": 9, "most": 8}, "field.age: least is more than most: nobody is meant."),
        ({"field": "age", "least": 2**70}, "field.age.least: Input should be less than or equal to 9007199254740992."),
        (
            {"field": "city", "among": []},
            "field.city.among: List should have at least 1 item after validation, not 0.",
        ),
        ({"field": "city", "among": ["a\0"]}, "field.city.among.0: String should match pattern '^[^\\x00]*$'."),
        ({"field": "city", "among": "Rome"}, "field.city.among: Input should be a valid list."),
        ({"field": "tags", "any_of": ["a"], "all_of": ["a"]}, "field.tags: give any_of or all_of."),
        ({"field": "last_order"}, "field.last_order: give within or not_within."),
        ({"field": "last_order", "within": -1}, "field.last_order.within: Input should be greater than 0 seconds."),
        ({"all": []}, "all: List should have at least 1 item after validation, not 0."),
        ({"not": {"any": [{"field": "age"}]}}, "not.any.0.field.age: give least, most, or both."),
        ({**ADULT, "colour": "red"}, "field.age.colour: Extra inputs are not permitted."),
        ("age > 18", 'it: a condition is an object with "field", or with "all", "any" or "not".'),
        ({}, 'it: a condition is an object with "field", or with "all", "any" or "not".'),
        (None, 'it: a condition is an object with "field", or with "all", "any" or "not".'),
        ({"any": [7]}, 'any.0: a condition is an object with "field", or with "all", "any" or "not".'),
    ],
)
def test_what_is_no_condition_is_refused_in_one_sentence(given: object, told: str) -> None:
    with pytest.raises(ValidationError) as refused:
        AUDIENCE.validate_python(given)
    assert faults(refused.value) == told


def test_an_audience_is_as_large_as_a_statement_of_a_database_may_be() -> None:
    AUDIENCE.validate_python(nested(DEEPEST))
    AUDIENCE.validate_python({"any": [ADULT] * MOST_LEAVES})
    with pytest.raises(ValidationError, match="nests at most 16 deep"):
        AUDIENCE.validate_python(nested(DEEPEST + 1))
    with pytest.raises(ValidationError, match="at most 100 comparisons"):
        AUDIENCE.validate_python({"any": [{"all": [ADULT] * MOST_LEAVES}, ADULT]})


def test_one_that_is_nested_beyond_all_measure_is_refused_before_anything_goes_down_into_it() -> None:
    with pytest.raises(ValidationError, match="nests at most 16 deep"):
        AUDIENCE.validate_python(nested(100_000))


def test_one_that_a_program_made_too_large_never_becomes_sql() -> None:
    condition: Condition = Span(field="age", least=18)
    for _ in range(DEEPEST):
        condition = NotOf.model_construct(not_=condition)
    with pytest.raises(BadRequest, match="nests at most 16 deep"):
        matches(condition, NOW)


@pytest.mark.parametrize(
    "given", [{"not": ADULT}, {"all": [ADULT, {"field": "last_order", "within": "P30D"}]}, {"any": [ADULT, ADULT]}]
)
def test_what_is_stored_is_read_again(given: object) -> None:
    condition = AUDIENCE.validate_python(given)
    assert AUDIENCE.validate_json(AUDIENCE.dump_json(condition, by_alias=True)) == condition
