"""What Claude Code prints, as far as it matters, in the words of version 2.1.332."""

from __future__ import annotations

import json
from typing import Any

SESSION = "bc6c2710-cff0-4962-927d-409404ac06bd"


def line(**fields: Any) -> str:
    return json.dumps({"session_id": SESSION, **fields}) + "\n"


def init() -> str:
    return line(type="system", subtype="init", model="claude-opus-5-5", tools=["Bash", "Edit"])


def reply(identity: str, block: dict[str, Any], **more: Any) -> str:
    message = {"id": identity, "role": "assistant", "model": "claude-opus-5-5", "content": [block]}
    return line(type="assistant", message=message, parent_tool_use_id=None, **more)


def said(identity: str, text: str) -> str:
    return reply(identity, {"type": "text", "text": text, "citations": None})


def use(identity: str, call: str, name: str, **fields: Any) -> str:
    return reply(identity, {"type": "tool_use", "id": call, "name": name, "input": fields})


def result(call: str, content: Any, *, failed: bool = False) -> str:
    block = {"tool_use_id": call, "type": "tool_result", "content": content, "is_error": failed}
    return line(type="user", message={"role": "user", "content": [block]}, parent_tool_use_id=None)


def told(text: str) -> str:
    message = {"role": "user", "content": [{"type": "text", "text": text}]}
    return line(type="user", message=message, parent_tool_use_id=None)


def ending(text: str | None = "Done.", **more: Any) -> str:
    fields = {
        "subtype": "success",
        "is_error": False,
        "result": text,
        "permission_denials": [],
        "api_error_status": None,
        "stop_reason": "end_turn",
        **more,
    }
    return line(type="result", **fields)


def two_turns() -> str:
    """A command and an edit in one reply, the first one done before the second is written."""
    return (
        init()
        + said("msg_1", "I look.")
        + use("msg_1", "toolu_1", "Bash", command="ls -la", description="Look")
        + result("toolu_1", "greeting.py")
        + use("msg_1", "toolu_2", "Edit", file_path="/workspace/greeting.py", old_string="a")
        + result("toolu_2", "not found", failed=True)
        + said("msg_2", "It is done.")
        + ending("It is done.")
    )
