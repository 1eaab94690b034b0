"""A whole coding agent in 40 lines, with nothing but Python: for the agent `command`.

PATCHWRIGHT_AGENT=command
PATCHWRIGHT_AGENT_PROGRAMS='{"/opt/small-agent": "/path/to/this/folder"}'
PATCHWRIGHT_AGENT_COMMAND='python3 /opt/small-agent/small_agent.py'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

TOOL = {"type": "bash_20250124", "name": "bash"}
HEADERS = {
    "content-type": "application/json",
    "anthropic-version": "2023-06-01",
    "x-api-key": os.environ["ANTHROPIC_API_KEY"],
}


def ask(messages):
    body = {"max_tokens": 8000, "tools": [TOOL], "messages": messages}
    body["model"] = os.environ["PATCHWRIGHT_MODEL"]
    url = os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages"
    request = urllib.request.Request(url, json.dumps(body).encode(), HEADERS)  # noqa: S310
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return json.load(answer)["content"]


def run(call):
    command = ["bash", "-c", call["input"]["command"]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = f"{done.stdout}{done.stderr}[exit code {done.returncode}]"
    return {"type": "tool_result", "tool_use_id": call["id"], "content": text}


def main():
    task = sys.stdin.read()
    if "PATCHWRIGHT_FEEDBACK" in os.environ:
        task += Path(os.environ["PATCHWRIGHT_FEEDBACK"]).read_text()
    messages = [{"role": "user", "content": task}]
    while True:
        content = ask(messages)
        messages.append({"role": "assistant", "content": content})
        results = [run(block) for block in content if block["type"] == "tool_use"]
        if not results:
            break
        messages.append({"role": "user", "content": results})
    words = "".join(block["text"] for block in content if block["type"] == "text")
    Path(os.environ["PATCHWRIGHT_SUMMARY"]).write_text(words)


main()
