"""A report of the ledger as the event that tells of it."""

from __future__ import annotations

from dataclasses import asdict

from patchwright_common.events import EgressAllowed, EgressEnded, EgressRefused, Event
from patchwright_common.flow import EGRESS_ALLOWED, EGRESS_ENDED, EGRESS_REFUSED, Route
from patchwright_runner.egress.reports import Allowed, Refused, Report


def announcement(report: Report, job_id: str, epoch: int) -> tuple[Route, Event, str]:
    """The route, the event, and the step that makes its message id.

    The same report has the same step, so that one whose confirmation was lost is not stored
    twice. The step still lacks the epoch.
    """
    common = {"job_id": job_id, "epoch": epoch, **asdict(report)}
    match report:
        case Allowed(purpose, host, port):
            event = EgressAllowed.model_validate(common)
            return EGRESS_ALLOWED, event, f"egress-allowed:{purpose}:{host}:{port}"
        case Refused(purpose, host, port):
            refused = EgressRefused.model_validate(common)
            return EGRESS_REFUSED, refused, f"egress-refused:{purpose}:{host}:{port}"
        case _:
            return EGRESS_ENDED, EgressEnded.model_validate(common), "egress-ended"
