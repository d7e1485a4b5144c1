"""What parameters a schema refuses, and that no schema refuses, hangs or asks for more than that."""

import json
from datetime import timedelta

import pytest
from pydantic import BaseModel, TypeAdapter

from admin.dispatch.convert import MAX_SCHEMA_BYTES, MAX_SCHEMAS_BYTES, schemas_of
from admin.domain.errors import InvalidParams
from admin.domain.names import ExecutorId, Group, HandlerName
from admin.operations.fleet import Alive
from admin.operations.params import MAX_REASON, fault_of
from admin.ports import Executor
from protos.executor.v1 import link_pb2 as pb
from tests.support.admin_factories import NOW

GROUP, PUSH = Group("promotion"), HandlerName("push")


class Audience(BaseModel):
    country: str
    tags: list[str] = []


class Params(BaseModel):
    promotion_id: int
    audience: Audience | None = None


SCHEMA = json.dumps(TypeAdapter(Params).json_schema())


def refused(schema: object, params: object, *, is_partial: bool = False) -> tuple[str, str] | None:
    text = schema if isinstance(schema, str) else json.dumps(schema)
    fault = fault_of(text, json.dumps(params), is_partial=is_partial)
    return fault and (fault.path, fault.reason)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"promotion_id": 1}, None),
        ({"promotion_id": 1, "audience": None, "more": "is welcome"}, None),
        ({"promotion_id": "x"}, ("params.promotion_id", "'x' is not of type 'integer'")),
        ({}, ("params", "'promotion_id' is a required property")),
        (
            {"promotion_id": 1, "audience": {"country": "de", "tags": ["a", 2]}},
            ("params.audience.tags[1]", "2 is not of type 'string'"),
        ),
    ],
)
def test_a_refusal_names_the_path_and_the_reason(params, expected):
    assert refused(SCHEMA, params) == expected


def test_partial_parameters_may_lack_what_comes_later_but_not_be_wrong():
    assert refused(SCHEMA, {}, is_partial=True) is None
    assert refused(SCHEMA, {"promotion_id": "x"}, is_partial=True)
    either = {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}
    assert refused(either, {})
    assert refused(either, {}, is_partial=True) is None


def _doubling(depth: int) -> dict[str, object]:
    rules = {f"r{level}": {"allOf": [{"$ref": f"#/$defs/r{level + 1}"}] * 2} for level in range(depth)}
    return {"$defs": {**rules, f"r{depth}": {"type": "object"}}, "$ref": "#/$defs/r0"}


@pytest.mark.parametrize(
    ("schema", "params"),
    [
        ("", {}),
        ("{", {}),
        ("[]", {}),
        ('{"type": "object", "properties": ' + "[" * 5000, {}),
        ({"type": 5}, {}),
        ({"required": "abc"}, {}),
        ({"$schema": 7, "type": "string"}, {}),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "string"}, {}),
        ({"$ref": "#"}, {}),
        ({"$dynamicRef": "#"}, {}),
        ({"$ref": "#/nowhere"}, {}),
        ({"$ref": "http://127.0.0.1:1/schema.json"}, {}),
        ({"$ref": "file:///etc/passwd"}, {}),
        ({"$id": "http://127.0.0.1:1/", "$ref": "other.json"}, {}),
        (_doubling(60), {}),
        ({"properties": {"a": {"pattern": "(a+)+$"}}}, {"a": "a" * 60 + "!"}),
        ({"additionalProperties": False, "patternProperties": {"(a+)+$": True}}, {"a" * 60 + "!": 1}),
        ('{"additionalProperties": false, "\\u0070atternProperties": {"(a+)+$": true}}', {"a" * 60 + "!": 1}),
        ({"required": [number if number % 2 else str(number) for number in range(4000)]}, {}),
        ({"properties": {"a": {"items": {"enum": list(range(4000))}}}}, {"a": [5000] * 20_000}),
        ({"properties": {"a": {"uniqueItems": True}}}, {"a": [[number] for number in range(10_000)] + [{}, {}]}),
        ({"unevaluatedProperties": False, **_doubling(60)}, {"a": 1}),
    ],
)
def test_what_is_no_schema_or_takes_for_ever_refuses_nothing(schema, params):
    assert refused(schema, params) is None


def test_a_reason_is_short_whatever_it_quotes():
    _, reason = refused({"properties": {"a": {"type": "integer"}}}, {"a": "x\n" * 10_000}) or ("", "")
    assert len(reason) <= MAX_REASON + 3
    assert "\n" not in reason


def _executor(name: str, schema: str, *, handler: HandlerName = PUSH, is_draining: bool = False) -> Executor:
    return Executor(
        id=ExecutorId(name),
        name=name,
        group=GROUP,
        handlers=frozenset({handler}),
        slots=1,
        used=0,
        is_draining=is_draining,
        version="1",
        connected_at=NOW,
        seen_at=NOW + timedelta(seconds=1),
        schemas={handler: schema} if schema else {},
    )


def test_while_a_deployment_rolls_it_is_enough_if_one_executor_accepts():
    text = json.dumps({"properties": {"promotion_id": {"type": "string"}}})
    old, new, unknown = _executor("old", SCHEMA), _executor("new", text), _executor("unknown", "")
    for params in ('{"promotion_id": 1}', '{"promotion_id": "x"}'):
        Alive([old, new]).check_params(GROUP, PUSH, params)
    with pytest.raises(InvalidParams, match=r"push, at params\.promotion_id: "):
        Alive([old, new]).check_params(GROUP, PUSH, '{"promotion_id": null}')
    Alive([old, unknown]).check_params(GROUP, PUSH, '{"promotion_id": null}')


def test_who_does_not_take_the_shard_has_no_say():
    draining, other = _executor("a", SCHEMA, is_draining=True), _executor("b", SCHEMA, handler=HandlerName("pull"))
    Alive([draining, other]).check_params(GROUP, PUSH, "{}")
    Alive([_executor("c", SCHEMA)]).check_params(Group("other"), PUSH, "{}")


def test_schemas_that_are_too_large_are_left_out():
    fitting, large = "{" + " " * (MAX_SCHEMA_BYTES - 2) + "}", "{" + " " * MAX_SCHEMA_BYTES
    handlers = [pb.Handler(name=f"h{number}", params_schema=fitting) for number in range(20)]
    register = pb.Register(handlers=[pb.Handler(name="large", params_schema=large), pb.Handler(name="none"), *handlers])
    assert list(schemas_of(register)) == [f"h{number}" for number in range(MAX_SCHEMAS_BYTES // MAX_SCHEMA_BYTES)]
