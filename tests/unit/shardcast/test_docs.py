"""The docs say what the code does."""

import re
from pathlib import Path
from types import ModuleType

import pytest
import typer.main

import shardcast.aio
import shardcast.testing
from admin.domain.shard import TABLE
from admin.settings import AdminSettings
from broker.delivery.leases.state import LEASES
from shardcast.cli import app
from tests.support import error_table

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def test_every_error_is_listed() -> None:
    assert error_table.TARGET.read_text() == error_table.table(), "run make docs"


@pytest.mark.parametrize(
    ("page", "package"), [("guide.md", shardcast), ("guide.md", shardcast.aio), ("testing.md", shardcast.testing)]
)
def test_every_public_name_is_in_its_page(page: str, package: ModuleType) -> None:
    prose = re.sub(r"```.*?```", "", (DOCS / page).read_text(), flags=re.DOTALL)
    words = {word for code in re.findall(r"`[^`]+`", prose) for word in re.findall(r"\w+", code)}
    assert [name for name in package.__all__ if name not in words] == []


def test_every_command_is_listed() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    command = typer.main.get_command(app)
    groups = dict(command.commands)  # type: ignore[attr-defined]
    for name, each in groups.items():
        assert name in text
        for verb in getattr(each, "commands", {}):
            assert re.search(rf"`{name} [^`]*\b{verb}\b", text), f"{name} {verb}"


def test_every_setting_of_the_admin_is_in_the_guide() -> None:
    text = (DOCS / "guide.md").read_text()
    for name, field in AdminSettings.model_fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        for setting in [name] if nested is None else [f"{name}__{each}" for each in nested]:
            assert re.search(rf"^\|[^|]*`{setting}`[^|]*\|[^|]*\b(admin|all)\b", text, re.MULTILINE), setting


@pytest.mark.parametrize(
    "page", ["README.md", "README.zh.md", *sorted(f"docs/{page.name}" for page in DOCS.glob("*.md"))]
)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text())
    assert all((path.parent / link).exists() for link in links if "://" not in link)


def test_the_drawn_tables_of_states_are_the_real_ones() -> None:
    rows = re.findall(r"^\| (\w+) \| (\w+) \| (\w+) \|$", (ROOT / "docs" / "states.md").read_text(), re.MULTILINE)
    real = [(*key, state) for table in (TABLE, LEASES) for key, state in table.items()]
    assert [row for row in rows if row[0] != "from"] == real
