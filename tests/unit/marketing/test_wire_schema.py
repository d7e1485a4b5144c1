"""What consumers in other languages may rely on; whoever changes it changes their programs."""

import json
from pathlib import Path

from examples.marketing.messages import PushMessage

SCHEMA = Path(__file__).parents[3] / "docs" / "push_message.schema.json"


def bare(schema: object) -> object:
    """Without the words that explain it."""
    if isinstance(schema, dict):
        return {name: bare(part) for name, part in schema.items() if name not in ("title", "description")}
    return schema


def test_the_schema_of_the_wire_form_is_the_one_that_was_promised() -> None:
    assert bare(PushMessage.model_json_schema()) == json.loads(SCHEMA.read_text())
