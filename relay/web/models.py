"""``/models``: the catalogue, as far as it is known here.

What is read here is what an input is checked against before it is sent on. Models that are missing
can be used all the same: their inputs are the upstream's to judge.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from relay.catalogue import models as catalogue
from relay.web import endpoints, problems
from relay.web.schemas import models as schemas


async def list_models(call: endpoints.Call) -> web.Response:
    """List the models that are known here.

    Others can be submitted too; their inputs are not checked before they are sent on.
    """
    found = [schemas.Model(**_members(model)) for model in call.services.catalogue]
    return endpoints.answer(schemas.Models(models=found, next_cursor=None))


async def show(call: endpoints.Call, *, slug: str) -> web.Response:
    """Show a model with the JSON Schema of its input.

    The schema is the one that inputs are checked against; where it is not complete, only what is
    known is checked. Hints for a form are in its members `x-playground`.
    """
    found = call.services.catalogue.find(slug)
    if found is None:
        near = call.services.catalogue.nearest(slug[:80])
        hint = f"did you mean {near[0]!r}?" if near else f"GET {endpoints.API}/models lists those there are."
        raise problems.Problem(404, f"There is no such model here; {hint}")
    shown = schemas.ModelWithSchema(
        **_members(found),
        example_input=dict(found.example_input),
        input_schema=None if found.schema is None else dict(found.schema),
    )
    return endpoints.answer(shown)


def _members(model: catalogue.Model) -> dict[str, Any]:
    return {name: getattr(model, name) for name in schemas.Model.model_fields}


_MODELS: Final = f"{endpoints.API}/models"

ENDPOINTS: Final = (
    endpoints.Endpoint(method="GET", path=_MODELS, handler=list_models, answers={200: schemas.Models}),
    endpoints.Endpoint(
        method="GET", path=f"{_MODELS}/{{slug}}", handler=show, answers={200: schemas.ModelWithSchema}
    ),
)
