"""wardgate's own API: `POST /v1/check`, and what is served here."""

import uuid
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

from wardgate.engine import Submission
from wardgate.hazards import Hazard
from wardgate.policy import Decision
from wardgate.serve.body import StrictRoute
from wardgate.serve.catalogue import Catalogue, GuardInfo, PolicyInfo
from wardgate.serve.conversation import Message, Turns, earlier, exchange
from wardgate.serve.explaining import Explanation, explain
from wardgate.serve.idempotency import Idempotency
from wardgate.serve.judge import Judge, caller_of
from wardgate.serve.problems import Kind, Problem, Rendered

PATHS = ("/v1/check",)

Context = dict[str, str | int | float | bool]
Language = Annotated[str, Field(pattern=r"^[a-z]{2}$", description="ISO 639-1 code")]


class Item(BaseModel):
    """One thing to judge: a text, a prompt with its response, or chat messages."""

    model_config = ConfigDict(extra="forbid", strict=True)
    text: str | None = None
    response: str | None = None
    messages: list[Message] | None = None
    turns: Turns = Field("last", description="which user messages are judged: the last, or all")
    id: Annotated[str, Field(max_length=128)] | None = None
    language: Language | None = None
    context: Context = Field(default_factory=dict, description="facts a policy may ask for")
    history: list[str] = Field(
        default_factory=list,
        max_length=256,
        description="the turns before a text, oldest first, for policies with a window",
    )


class CheckRequest(BaseModel):
    """One or many things to judge under one policy."""

    model_config = ConfigDict(extra="forbid", strict=True)
    input: str | Item | list[str | Item]
    policy: str | None = Field(None, description="a policy's name; the server's default when absent")
    explain: bool = Field(False, description="add what was normalised and what each guard said")


class GuardRow(BaseModel):
    """How one guard fared: its raw logits under its own labels, null where not scored."""

    name: str
    status: Literal["ok", "failed", "timeout", "missing", "skipped"]
    ms: float
    scores: dict[str, float | None]


class Result(BaseModel):
    """One decision. `unsafe` and hazards are probabilities, null where no guard can answer."""

    id: str
    action: Literal["allow", "review", "warn", "block", "delete", "timeout", "ban"]
    unsafe: float | None = Field(ge=0, le=1)
    hazards: dict[Hazard, float | None]
    flagged: list[str]
    rule: str
    policy: str
    guards: list[GuardRow]
    normalised: bool
    language: str | None
    reason: str
    dry_run: bool
    explanation: Explanation | None = None
    decision: str | None = Field(None, description="its name in the store, for appeals; absent without a store")


class CheckResponse(BaseModel):
    """The decisions, in the order of the input."""

    id: str
    results: list[Result]


class FaultRow(BaseModel):
    """One thing that is wrong with a body."""

    where: str
    what: str


class ProblemDocument(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    code: Kind
    errors: list[FaultRow] = []


class GuardList(BaseModel):
    """The guards that are loaded."""

    guards: list[GuardInfo]


class PolicyList(BaseModel):
    """The policies that are served, and which is used when none is asked for."""

    default: str
    policies: list[PolicyInfo]


def render(problem: Problem) -> Rendered:
    """A problem as `application/problem+json` (RFC 9457)."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": problem.kind.value.replace("_", " "),
        "status": problem.status_code,
        "detail": problem.message,
        "code": problem.kind.value,
        "errors": [{"where": fault.where, "what": fault.what} for fault in problem.faults],
    }
    return Rendered(problem.status_code, body, "application/problem+json")


def _documented(description: str) -> dict[str, Any]:
    schema = ProblemDocument.model_json_schema(ref_template="#/components/schemas/{model}")
    faults = schema.pop("$defs")  # written out, because this media type cannot be given to FastAPI as a model
    schema["properties"]["code"] = faults["Kind"]
    schema["properties"]["errors"]["items"] = faults["FaultRow"]
    return {"description": description, "content": {"application/problem+json": {"schema": schema}}}


ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": _documented("The request cannot be answered."),
    "5XX": _documented("The server cannot answer."),
}


def submissions(items: str | Item | Sequence[str | Item]) -> list[Submission]:
    """What was sent as what the engine takes.

    Raises:
        Problem: if an item says nothing, or says it in two ways at once.
    """
    rows = [items] if isinstance(items, (str, Item)) else list(items)
    if not rows:
        raise Problem(Kind.EMPTY_INPUT, "input: at least one text", param="input")
    return [_submission(row, i) for i, row in enumerate(rows)]


def _submission(item: str | Item, number: int) -> Submission:
    if isinstance(item, str):
        return Submission(item, id=str(number))
    if (item.messages is None) == (item.text is None):
        raise Problem(Kind.INVALID_REQUEST, "give each item either a text or messages", param=f"input[{number}]")
    if item.messages is not None and item.response is not None:
        raise Problem(
            Kind.INVALID_REQUEST,
            "a response beside messages: make it the last message",
            param=f"input[{number}]",
        )
    if item.messages is not None and item.history:
        raise Problem(Kind.INVALID_REQUEST, "history beside messages: make it messages", param=f"input[{number}]")
    text, response, history = item.text or "", item.response, tuple(item.history)
    if item.messages is not None:
        text, response = exchange(item.messages, turns=item.turns)
        history = earlier(item.messages) if item.turns == "last" else ()
    return Submission(
        text, response, id=item.id or str(number), language=item.language, context=item.context, history=history
    )


def row_of(decision: Decision) -> dict[str, object]:
    """A decision as JSON values: `wardgate check --json`, the reason, and whether it is a dry run."""
    return decision.as_dict() | {"reason": decision.reason, "dry_run": decision.dry_run}


def router(judge: Judge, catalogue: Catalogue, idempotency: Idempotency) -> APIRouter:
    """The native routes."""
    routes = APIRouter(route_class=StrictRoute, tags=["wardgate"], responses=ERRORS)

    async def answer(request: Request, body: CheckRequest) -> bytes:
        items = submissions(body.input)
        decisions = await judge.decide(request, items, policy=body.policy)
        rows = [row_of(decision) for decision in decisions]
        for row, name in zip(rows, request.state.decision_names, strict=False):
            row["decision"] = name
        if body.explain:
            for row, item, decision in zip(rows, items, decisions, strict=True):
                row["explanation"] = explain(item, decision)
        return to_json({"id": f"chk-{uuid.uuid4().hex}", "results": rows})

    @routes.post("/v1/check", response_model=CheckResponse)
    async def check(
        request: Request,
        body: CheckRequest,
        idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    ) -> Response:
        """Judge one text or many, prompts with responses, or chats."""
        if idempotency_key is None:
            return Response(await answer(request, body), media_type="application/json")
        caller, raw = caller_of(request).id, await request.body()
        content, replayed = await idempotency.once(caller, idempotency_key, raw, lambda: answer(request, body))
        headers = {"idempotent-replayed": "true"} if replayed else {}
        return Response(content, media_type="application/json", headers=headers)

    @routes.get("/v1/guards")
    async def guards() -> GuardList:
        """The guards that are loaded, what they can see, and what they cannot."""
        return GuardList(guards=list(catalogue.guards))

    @routes.get("/v1/policies")
    async def policies() -> PolicyList:
        """The policies that are served."""
        return PolicyList(default=catalogue.default, policies=list(catalogue.policies))

    return routes
