"""The models that a job may ask, as the API lists them. The model's server is not asked for it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from patchwright_runner.gateway.grammar import short
from patchwright_runner.gateway.refusal import NOT_FOUND, RefusedError
from patchwright_runner.gateway.settings import GatewaySettings

PATH = "/v1/models"


def routes(settings: GatewaySettings) -> list[Route]:
    """`GET /v1/models` and each of them."""

    async def several(_request: Request) -> Response:
        data = [_model(name) for name in settings.models]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]}
        return JSONResponse({"data": data, "has_more": False, **ends})

    async def one(request: Request) -> Response:
        name = request.path_params["name"]
        must_be_allowed(name, settings)
        return JSONResponse(_model(name))

    return [Route(PATH, several), Route(f"{PATH}/{{name}}", one)]


def must_be_allowed(name: str, settings: GatewaySettings) -> None:
    """Raises RefusedError as the API does for a model that it does not have."""
    if not settings.allows(name):
        allowed = ", ".join(settings.models)
        raise RefusedError(
            f"model: {short(name)} is not one of this job's models ({allowed})",
            status=404,
            kind=NOT_FOUND,
        )


def _model(name: str) -> dict[str, str]:
    """A date that is not known is the beginning of time, as in the API."""
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
    }
