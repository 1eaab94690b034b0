"""The pure checks, where the wire in front of them would be stricter."""

from __future__ import annotations

import ast
import inspect

import pytest

from patchwright_ingest import webhook


def test_signature_is_compared_in_constant_time() -> None:
    [checking] = ast.parse(inspect.getsource(webhook.check_signature)).body
    assert not [node for node in ast.walk(checking) if isinstance(node, ast.Eq | ast.NotEq)]
    assert "hmac.compare_digest(" in ast.unparse(checking)


@pytest.mark.parametrize("signature", ["é", "\ud800", "sha256=\x00", "sha256=" + "\xff" * 64])
def test_odd_signature_is_refused(signature: str) -> None:
    with pytest.raises(webhook.RefusedError) as refused:
        webhook.check_signature(b"secret", b"{}", signature)
    assert refused.value.status == 401


def test_content_length_that_python_cannot_read_is_refused() -> None:
    with pytest.raises(webhook.RefusedError) as refused:
        webhook.check_envelope({"content-type": "application/json", "content-length": "9" * 5000})
    assert refused.value.status == 413
