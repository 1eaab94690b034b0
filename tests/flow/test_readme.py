"""README shows the map that the code holds."""

from __future__ import annotations

import re
from pathlib import Path

from patchwright_common import flow

README = Path(__file__).parents[2] / "README.md"


def test_readme_shows_the_flow_table_of_the_code() -> None:
    shown = re.search(r"<!-- flow -->\n(.*?)\n<!-- /flow -->", README.read_text(), re.DOTALL)
    assert shown is not None, "README has no <!-- flow --> … <!-- /flow --> section"
    assert shown[1].strip() == flow.table(), "run `just flow` and paste it into README"
