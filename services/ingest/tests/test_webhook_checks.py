"""The pure checks, where the wire in front of them would be stricter."""

from __future__ import annotations

import ast
import inspect

import pytest

from patchwright_ingest import webhook


def test_signature_is_compared_in_constant_time_with_every_secret() -> None:
    [checking] = ast.parse(inspect.getsource(webhook.is_signed)).body
    lazy = ast.Eq | ast.NotEq | ast.GeneratorExp | ast.For | ast.BoolOp
    assert not [node for node in ast.walk(checking) if isinstance(node, lazy)]
    assert "hmac.compare_digest(" in ast.unparse(checking)


@pytest.mark.parametrize("signature", ["é", "\ud800", "sha256=\x00", "sha256=" + "\xff" * 64])
def test_odd_signature_is_refused(signature: str) -> None:
    assert not webhook.is_signed([b"secret"], b"{}", signature)


def test_no_secret_signs_nothing() -> None:
    assert not webhook.is_signed([], b"{}", "sha256=")


def test_content_length_that_python_cannot_read_is_refused() -> None:
    with pytest.raises(webhook.RefusedError) as refused:
        webhook.check_envelope({"content-type": "application/json", "content-length": "9" * 5000})
    assert refused.value.status == 413
