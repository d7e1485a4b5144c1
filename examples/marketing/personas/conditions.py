"""Conditions on users as validated data: trees of and, or, not over comparisons of named fields."""

from datetime import timedelta
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

MOST_LEAVES = 100
DEEPEST = 16
"""How far trees may nest: a condition becomes one statement of the database."""

Texts: TypeAlias = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(min_length=1)]


class _Node(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(_Node):
    """Both ends included."""

    field: Literal["age", "spent_90d_cents"]  # whole years; cents spent in the last 90 days
    least: int | None = None
    most: int | None = None

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
    within: timedelta | None = None
    not_within: timedelta | None = None

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


Condition: TypeAlias = Leaf | AllOf | AnyOf | NotOf

for model in (AllOf, AnyOf, NotOf):
    model.model_rebuild()
