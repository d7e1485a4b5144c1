"""Conditions on users as validated data: trees of and, or, not over comparisons of named fields."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

MOST_LEAVES = 100
DEEPEST = 16
"""How far trees may nest: a condition becomes one statement of the database."""

_Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00]*$")]
_Number: TypeAlias = Annotated[int, Field(strict=True, ge=0, le=2**53)]
_Time: TypeAlias = Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=36_500))]
Texts: TypeAlias = Annotated[list[_Text], Field(min_length=1, max_length=100)]


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Node):
    """Both ends included."""

    field: Literal["age", "spent_90d_cents"]  # whole years; cents spent in the last 90 days
    least: _Number | None = None
    most: _Number | None = None

    @model_validator(mode="after")
    def _is_a_span(self) -> Self:
        if self.least is None and self.most is None:
            raise ValueError("give least, most, or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError("least is more than most: nobody is meant")
        return self


class Among(_Node):
    field: Literal["level", "city"]
    among: Texts


class Tags(_Node):
    """Users with at least one of the tags, or with all of them."""

    field: Literal["tags"]
    any_of: Texts | None = None
    all_of: Texts | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.any_of is None) == (self.all_of is None):
            raise ValueError("give any_of or all_of")
        return self


class LastOrder(_Node):
    """Users who ordered within the time, or did not (those who never did included)."""

    field: Literal["last_order"]
    within: _Time | None = None
    not_within: _Time | None = None

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if (self.within is None) == (self.not_within is None):
            raise ValueError("give within or not_within")
        return self


Leaf: TypeAlias = Annotated[Span | Among | Tags | LastOrder, Field(discriminator="field")]


class AllOf(_Node):
    all: Annotated[list["Condition"], Field(min_length=1)]


class AnyOf(_Node):
    any: Annotated[list["Condition"], Field(min_length=1)]


class NotOf(_Node):
    not_: Annotated["Condition", Field(alias="not")]


def _kind(given: object) -> str | None:
    """Which one is meant, so that what is wrong with it is told, and not with all the others."""
    if isinstance(given, Mapping):
        return next((kind for kind in ("all", "any", "not", "field") if kind in given), None)
    match given:
        case AllOf():
            return "all"
        case AnyOf():
            return "any"
        case NotOf():
            return "not"
        case Span() | Among() | Tags() | LastOrder():
            return "field"
        case _:
            return None


Condition: TypeAlias = Annotated[
    Annotated[AllOf, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[NotOf, Tag("not")]
    | Annotated[Leaf, Tag("field")],
    Discriminator(
        _kind,
        custom_error_type="condition",
        custom_error_message='a condition is an object with "field", or with "all", "any" or "not"',
    ),
]
"""Part of an audience, of any size."""

for model in (AllOf, AnyOf, NotOf):
    model.model_rebuild()


def check_size(given: object) -> object:
    """Returns what was given, a condition or what shall become one. Raises ValueError where it is too large.

    A loop and no recursion: that is for those which have passed.
    """
    leaves, waiting = 0, [(given, 1)]
    while waiting:
        node, depth = waiting.pop()
        parts = _parts(node)
        leaves += not parts
        if depth > DEEPEST:
            raise ValueError(f"a condition nests at most {DEEPEST} deep")
        if leaves > MOST_LEAVES:
            raise ValueError(f"a condition has at most {MOST_LEAVES} comparisons")
        waiting += [(part, depth + 1) for part in parts]
    return given


def _parts(node: object) -> Sequence[object]:
    match node:
        case AllOf(all=parts) | AnyOf(any=parts) | {"all": [*parts]} | {"any": [*parts]}:
            return parts
        case NotOf(not_=part) | {"not": part}:
            return [part]
        case _:
            return []


Audience: TypeAlias = Annotated[Condition, BeforeValidator(check_size)]
"""A condition that may be asked of the database."""
