"""README shows the map that the code holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from patchwright_common import flow, requests

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize(
    ("name", "table"), [("flow", flow.table()), ("requests", requests.table())]
)
def test_readme_shows_the_map_of_the_code(name: str, table: str) -> None:
    shown = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README.read_text(), re.DOTALL)
    assert shown is not None, f"README has no <!-- {name} --> … <!-- /{name} --> section"
    assert shown[1].strip() == table, "run `just flow` and paste it into README"
