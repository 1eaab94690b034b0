"""The agents: programs that work on a task in a sandbox until they have something to show."""

from __future__ import annotations

from patchwright_runner.agent.claude import ClaudeAgent
from patchwright_runner.agent.model import Patience
from patchwright_runner.agent.protocol import (
    Agent,
    AgentResult,
    Budget,
    Checkpoint,
    Guide,
    Image,
    Observer,
    Remark,
    Task,
    ToolCall,
    Turn,
    Usage,
)

__all__ = [
    "Agent",
    "AgentResult",
    "Budget",
    "Checkpoint",
    "ClaudeAgent",
    "Guide",
    "Image",
    "Observer",
    "Patience",
    "Remark",
    "Task",
    "ToolCall",
    "Turn",
    "Usage",
]
