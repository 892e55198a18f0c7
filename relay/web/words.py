"""The words of the API's description that no signature holds: headers, statuses, examples, tags.

Data only; ``openapi.py`` puts it together. A name or status that an ``Endpoint`` declares and that
is missing here fails the making of the document, and so a test, rather than leaving a gap.
"""

from __future__ import annotations

from typing import Any, Final

ABOUT: Final = """\
relay submits generation tasks, or takes those that exist, polls the API that runs them, and tells \
your destinations when they end.

`POST /api/v1/tasks`, `GET /api/v1/tasks/{task}` and `GET /api/v1/tasks/{task}/events` are those of \
the relayed API: a client written for it works here with another address and key. What is relay's \
own in a task stands under `relay`.

Every route under `/api/v1` takes an API key as `Authorization: Bearer`. Bodies are JSON in UTF-8: \
at most 64 levels deep, integers of at most 64 bits, no member twice, no NUL. Unknown query \
parameters are refused, and so are unknown members, but for those of a create, which go on to the \
upstream unless they look like one of relay's.

Every answer carries `X-Request-Id`, those to a key also `RateLimit` and `RateLimit-Policy`. Errors \
are `application/problem+json` (RFC 9457) and name the request in `instance`. `GET` routes answer \
`HEAD` too."""

TAGS: Final = {
    "tasks": "Submitting, registering, reading and letting go of tasks.",
    "registrations": "Registering many tasks at once.",
    "events": "Changes of all tasks that a key sees, as they happen.",
    "models": "What can be submitted.",
    "submissions": "Creates that were sent on to an upstream.",
    "destinations": "Who can be told.",
    "deliveries": "What was told to whom.",
    "redeliveries": "Telling many deliveries again; only for admins.",
    "keys": "API keys; only for admins.",
    "operations": "For operators and their tools. No key is needed.",
}
"""In the order in which they are shown; a tag that is not here comes after them, without words."""

_TASK_PATTERN: Final = r"^([a-z][a-z0-9_]{0,62}:)?(?!\.{1,2}$)[A-Za-z0-9._:~-]{1,200}$"

PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "task": {
        "description": "A task's id as the upstream gave it, or `upstream:id` where it is not one of the "
        "default upstream. The prefix counts only where it is the name of a configured upstream.",
        "schema": {"type": "string", "pattern": _TASK_PATTERN},
        "example": "task_demo_model",
    },
    "name": {
        "description": "The name of a destination.",
        "schema": {"type": "string", "minLength": 1},
        "example": "pipeline",
    },
    "delivery": {
        "description": "A delivery's id, which is the `webhook-id` that its destination gets.",
        "schema": {"type": "string", "minLength": 1},
        "example": "msg_aaaaaaaaaaaaaaaaaaaaaaaa",
    },
    "redelivery": {
        "description": "A redelivery's id.",
        "schema": {"type": "string", "minLength": 1},
        "example": "rdl_aaaaaaaaaaaaaaaaaaaaaaaa",
    },
    "key": {
        "description": "The id of an API key, not its text.",
        "schema": {"type": "string", "minLength": 1},
        "example": "key_aaaaaaaaaaaaaaaaaaaaaaaa",
    },
    "slug": {
        "description": "A model's slug.",
        "schema": {"type": "string", "minLength": 1},
        "example": "minimax-hailuo-2-3",
    },
}

QUERY_PARAMETERS: Final = {
    "limit": "How many to answer at most.",
    "cursor": "The `next_cursor` of the answer before; without it, from the start.",
    "status": "Only tasks with this status.",
    "verdict": "Only tasks of which relay concluded this.",
    "upstream": "Only tasks of this upstream.",
    "state": "Only deliveries in this state.",
    "destination": "Only deliveries to this destination.",
    "task": "Only of this task: its id, or `upstream:id`.",
}
"""What filters do; a schema's own description goes before these."""

REQUEST_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "Idempotency-Key": {
        "description": "Makes it safe to ask again: the same payload gets the first answer, another one a "
        "409. A key belongs to the API key that sends it. One is made where none is given.",
        "schema": {
            "type": "string",
            "maxLength": 255,
            "pattern": r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$",
        },
        "example": "order-4711",
    },
    "Relay-Notify": {
        "description": "Names of destinations, separated by commas, for bodies that must stay as the relayed "
        "API documents them. Adds to `notify`.",
        "schema": {"type": "string"},
    },
    "Prefer": {
        "description": "`wait=N` (seconds, at most 60) holds the answer until the task has ended.",
        "schema": {"type": "string"},
    },
    "Last-Event-ID": {
        "description": "The id of the last event seen on a stream that broke off: it goes on behind it.",
        "schema": {"type": "string"},
    },
    "If-None-Match": {
        "description": "The `ETag` of what the caller has; 304 where that still holds.",
        "schema": {"type": "string"},
    },
}

_SECONDS: Final = {"type": "integer", "minimum": 0}

ANSWER_HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Request-Id": {
        "description": "The caller's own `X-Request-Id` where it is fit for that, else a new one.",
        "schema": {"type": "string"},
    },
    "Location": {"description": "Where it is read.", "schema": {"type": "string", "format": "uri-reference"}},
    "Idempotent-Replayed": {
        "description": "The answer is the first one, given again.",
        "schema": {"const": "true"},
    },
    "Idempotency-Key": {
        "description": "The key to ask again with; the one that was made where none was given.",
        "schema": {"type": "string"},
    },
    "ETag": {"description": "Changes when the answer does.", "schema": {"type": "string"}},
    "Preference-Applied": {
        "description": "The part of `Prefer` that was heeded.",
        "schema": {"type": "string"},
    },
    "Retry-After": {"description": "Seconds after which to try again.", "schema": _SECONDS},
    "RateLimit": {
        "description": "What is left of the key's budget (`r`), and the seconds until it is whole (`t`).",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {
        "description": "The key's budget (`q`) and its seconds (`w`).",
        "schema": {"type": "string"},
    },
    "WWW-Authenticate": {"description": "How to say who you are.", "schema": {"type": "string"}},
    "Accept-Post": {"description": "The type that bodies must have.", "schema": {"type": "string"}},
}

SENT_TO_KEYS: Final = ("RateLimit", "RateLimit-Policy")
"""Headers of every answer to a request with a key."""

SENT_WITH: Final[dict[int | str, tuple[str, ...]]] = {
    401: ("WWW-Authenticate",),
    415: ("Accept-Post",),
    429: ("Retry-After", *SENT_TO_KEYS),
    503: ("Retry-After",),
    504: ("Idempotency-Key",),
}
"""Headers that the problems of a status carry, at most."""

PROBLEMS: Final[dict[int | str, tuple[str, str]]] = {
    400: (
        "BadRequest",
        "The request cannot be read: no JSON, not UTF-8, a broken body, a header that cannot be used.",
    ),
    401: ("Unauthorized", "No API key, or one that is unknown or disabled."),
    403: ("Forbidden", "This key may not do that."),
    404: ("NotFound", "There is no such thing, or this key does not see it."),
    408: ("RequestTimeout", "The body did not arrive in time."),
    409: (
        "Conflict",
        "It does not go with how things stand: an `Idempotency-Key` that was used for another input, a name "
        "that is taken, a definition in the configuration, or a state that does not allow this. `detail` "
        "says which.",
    ),
    413: ("ContentTooLarge", "The body is over the limit."),
    415: ("UnsupportedMediaType", "The body is not announced as JSON in UTF-8."),
    422: ("UnprocessableContent", "The request says something wrong; `errors` lists all of it."),
    429: ("TooManyRequests", "Too many requests with this key."),
    500: ("InternalServerError", "relay failed; its log says why, under this `instance`."),
    502: ("BadGateway", "The upstream's answer cannot be used, or it refuses relay's own key."),
    503: (
        "ServiceUnavailable",
        "The database cannot be used at the moment, or, of a probe: not ready, with the reasons.",
    ),
    504: (
        "GatewayTimeout",
        "The upstream gave no definite answer in time; relay goes on finding out. Ask again with the "
        "`Idempotency-Key` of this answer.",
    ),
    "4XX": ("RefusedByTheUpstream", "The upstream refused it: its own status, in its own words."),
}
"""By status: a name among the components, and what it means."""

ANSWERS: Final = {
    200: "Done.",
    201: "It was made.",
    202: "It will be done.",
    204: "Done; there is nothing to say.",
    304: "What the caller has still holds.",
}

SUBMITTED: Final = {
    "model": "minimax-hailuo-2-3",
    "input": {
        "prompt": "A cinematic portrait shot with smooth camera movement and realistic lighting.",
        "resolution": "768p",
        "duration": 6,
    },
}

EXAMPLES: Final[dict[str, list[Any]]] = {
    "NewTask": [SUBMITTED, SUBMITTED | {"notify": [], "metadata": {"order": 4711}}],
    "Wishes": [{"statuses": ["succeeded", "failed"], "metadata": {"order": 4711}}],
    "NewKey": [{"name": "backend", "role": "client"}],
    "NewDestination": [{"name": "renders", "url": "https://example.com/hooks/render", "rate": 5}],
    "ChangedDestination": [{"rate": 20, "statuses": ["failed"]}],
    "Resumption": [{"which": "newest"}],
    "Rotation": [{"overlap": 3600}],
    "NewRedelivery": [
        {"reason": "http_503", "created_after": "2026-11-23T01:00:00Z"},
        {"all": True, "rate": 50},
    ],
    "RunRedelivery": [{"rate": 50}],
    "Created": [
        {
            "request_id": "req_demo_model",
            "task_id": "task_demo_model",
            "status": "queued",
            "cost_estimate": 0.3294,
        }
    ],
}
"""Of models, by name."""

MEMBERS: Final = {
    "notify": "Names of destinations, or URLs where the operator permits that. None means that the routes "
    "of the configuration decide.",
    "statuses": "The status changes to be told; they override those of the destination.",
    "metadata": "At most 4 kB of JSON; comes back in every notification.",
    "model": "The model's slug.",
    "input": "What the model takes.",
    "upstream": "The upstream by its name in the configuration.",
    "request_id": "The upstream's id of the request.",
    "task_id": "The upstream's id of the task.",
    "cost_estimate": "In the upstream's currency.",
    "cost_actual": "In the upstream's currency; `null` before the end.",
    "output": "As the upstream gave it; `null` before the end.",
    "error": "As the upstream gave it; there where the task failed.",
    "relay": "What relay itself knows of it.",
    "verdict": "What relay concluded.",
    "registrations": "Those that this key may see.",
    "key": "The id of the API key.",
    "KeyWithSecret.key": "The text of the key. It is shown this once.",
    "enabled": "Whether the key works.",
    "last_used_at": "Within a minute or so; `null` where it never was.",
    "next_cursor": "Where to go on; `null` at the end of a list.",
    "TaskEvents.next_cursor": "Where to go on, at any time.",
    "events": "After the cursor, in the order of the upstream.",
    "events_seen": "How many events of it relay has stored.",
    "last_polled_at": "Since the start of the daemon.",
    "next_poll_at": "`null` where it is not asked any more.",
    "finished_at": "When relay stopped asking.",
    "data": "As the upstream gave it.",
    "address": "All of its URL that may be shown.",
    "prompt": "Whether messages quote the prompt.",
    "source": "Where it is defined: those of the configuration cannot be changed here.",
    "owner": "The id of the API key that an inline destination belongs to.",
    "service": "What it is sent as, such as `signed webhook` or `Slack`.",
    "url": "http(s) for a signed webhook, any other is Apprise's. It is never shown again.",
    "secret": "`whsec_` and base64 of 24 to 64 bytes; signs a webhook.",
    "signing_key": "`whsk_` and base64 of an ed25519 key; signs a webhook as `v1a`.",
    "schedule": "Seconds before each attempt, from the one before; as many attempts as there are numbers.",
    "timeout": "Seconds for one attempt.",
    "concurrency": "Sends at the same time.",
    "rate": "Deliveries per second; `null` without a limit.",
    "age_max": "Seconds from its making or redelivery after which what is owed is given up; `null` never.",
    "retry_after_max": "The most seconds that its `Retry-After` is heeded for.",
    "headers": "Names of the headers that its requests carry besides relay's own.",
    "NewDestination.headers": "Headers that its requests carry besides relay's own.",
    "ChangedDestination.headers": "Headers that its requests carry besides relay's own.",
    "problem": "Why nothing can be sent to it; `null` where it can.",
    "signatures": "The schemes that its webhooks are signed with.",
    "paused_at": "When somebody paused it; `null` where nobody did.",
    "disabled_at": "When relay disabled it; `null` where it did not.",
    "disabled_reason": "`failing`, or what the receiver said of itself.",
    "failing_since": "The first failure since something arrived; `null` where all is well.",
    "which": "What is sent of what was held: all, the newest of each task, or none.",
    "released": "Held deliveries that will be sent now.",
    "superseded": "Held deliveries that a newer one of their task made pointless.",
    "dropped": "Held deliveries that are given up; they can be redelivered.",
    "restored": "Held deliveries that are not sent again but had arrived before: they are `delivered`.",
    "overlap": "Seconds for which the old secret signs too.",
    "old_until": "Until when the old secret signs too; `null` where it does not.",
    "public_key": "`whpk_` and base64.",
    "type": "`task.succeeded` and so on.",
    "destination": "The destination's name.",
    "attempts_made": "Tries so far.",
    "next_attempt_at": "When it is tried next; `null` where it is not.",
    "reason": "A word for what became of it.",
    "attempts": "Every try, first to last.",
    "number": "From 1.",
    "status_code": "Of HTTP or SMTP.",
    "detail": "A line of what the receiver said.",
    "delivered_at": "When the destination took it.",
    "NewRegistration.task": "The task: its id, or `upstream:id`.",
    "RegistrationResult.id": "relay's own id of the task.",
    "result": "`refused` has an `error`.",
    "NewRedelivery.destination": "Only deliveries to this destination.",
    "NewRedelivery.reason": "Only deliveries whose last attempt failed so, `http_503` and so on.",
    "NewRedelivery.type": "Only deliveries of this type, `task.failed` and so on.",
    "NewRedelivery.task": "Only deliveries of this task: its id, or `upstream:id`.",
    "NewRedelivery.created_after": "Only deliveries made since, this instant included.",
    "NewRedelivery.created_before": "Only deliveries made before this instant.",
    "NewRedelivery.all": "Whether all deliveries in `state` are meant; instead of narrowing.",
    "Selection.destination": "Only deliveries to this destination.",
    "Selection.state": "Only deliveries in this state.",
    "Selection.reason": "Only deliveries whose last attempt failed so.",
    "Selection.type": "Only deliveries of this type.",
    "Selection.task": "Only deliveries of this task.",
    "Selection.created_after": "Only deliveries made since, this instant included.",
    "Selection.created_before": "Only deliveries made before this instant.",
    "filter": "Which deliveries.",
    "count": "How many deliveries the preview found.",
    "done": "How many of them were made due again; whether they arrived, they say themselves.",
    "skipped": "How many stay as they are: held by their destination, or in another state by now.",
    "eta_seconds": "What is left of it at its rate; `null` at its end.",
    "position": "When the last delivery that was looked at was made; `null` before it runs.",
    "created_by": "The id of the API key that made it.",
    "changed_at": "When it last moved.",
    "Redelivery.finished_at": "When it was done or cancelled.",
    "RedeliveryPreview.finished_at": "When it was done or cancelled.",
    "sample": "The first deliveries that it would send, at most 10.",
    "slug": "What a create names.",
    "schema_complete": "Whether the whole schema of the input is known.",
    "retired": "Whether new tasks are refused.",
    "example_input": "An input that works.",
}
"""What members mean, by name, or by ``Model.member`` where that name means something else there."""

LINKS: Final = {
    "Created": ("task", "task_id"),
    "Task": ("task", "task_id"),
    "KeyWithSecret": ("key", "id"),
    "Delivery": ("delivery", "id"),
    "DeliveryWithAttempts": ("delivery", "id"),
    "Redelivery": ("redelivery", "id"),
    "RedeliveryPreview": ("redelivery", "id"),
}
"""Models whose member (second) is what a path parameter (first) of other operations takes."""

PROBLEM: Final[dict[str, Any]] = {
    "description": "An error (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "instance": {
            "type": "string",
            "pattern": "^urn:relay:request:",
            "description": "Names the request; relay's log has it too.",
        },
        "errors": {
            "type": "array",
            "maxItems": 50,
            "description": "Everything that is wrong, each at its place.",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "detail": {"type": "string"},
                    "pointer": {
                        "type": "string",
                        "format": "json-pointer",
                        "description": "Where in the request's body (RFC 6901).",
                    },
                    "parameter": {
                        "type": "string",
                        "description": "Which query parameter or header.",
                    },
                },
            },
        },
    },
}
"""The schema of every error."""

STREAM: Final[dict[str, Any]] = {
    "description": "Each event of a stream of server-sent events. Comments keep a silent stream alive.",
    "type": "object",
    "required": ["data"],
    "properties": {
        "id": {"type": "string", "description": "For `Last-Event-ID`."},
        "event": {"type": "string", "description": "What kind of event it is."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/StreamedEvent"},
            "description": "A `StreamedEvent` as JSON.",
        },
    },
}
"""The schema of what ``text/event-stream`` carries."""

NOTIFICATION: Final[dict[str, Any]] = {
    "description": "What a webhook receives when a task's status changes (Standard Webhooks).",
    "type": "object",
    "required": ["type", "timestamp", "data"],
    "properties": {
        "type": {
            "enum": [
                f"task.{change}"
                for change in ("queued", "processing", "succeeded", "failed", "cancelled", "stalled", "lost")
            ]
        },
        "timestamp": {"type": "string", "format": "date-time"},
        "data": {
            "type": "object",
            "required": ["task_id", "status", "verdict", "output", "metadata"],
            "properties": {
                "task_id": {"type": "string"},
                "request_id": {"type": ["string", "null"]},
                "upstream": {"type": "string"},
                "model": {"type": ["string", "null"]},
                "status": {"$ref": "#/components/schemas/Status"},
                "verdict": {"$ref": "#/components/schemas/Verdict"},
                "cost_estimate": {"type": ["number", "null"]},
                "cost_actual": {"type": ["number", "null"]},
                "output": {"description": "As the upstream gave it; `null` where it is over 12 kB."},
                "error": {"description": "As the upstream gave it, cut where it is long."},
                "metadata": {
                    "type": ["object", "null"],
                    "description": "Of the registration that named this destination first.",
                },
                "submitted_at": {"type": ["string", "null"], "format": "date-time"},
                "finished_at": {"type": ["string", "null"], "format": "date-time"},
                "output_truncated": {
                    "const": True,
                    "description": "There where the output was too long; `GET /api/v1/tasks/{task}` has it.",
                },
            },
        },
    },
}

WEBHOOK: Final[dict[str, Any]] = {
    "post": {
        "operationId": "webhook_task",
        "summary": "A task changed its status",
        "description": "relay posts this to destinations that are webhooks, at least once. Verify the "
        "signature over the exact bytes, answer 2xx within 15 seconds, and do everything once per "
        "`webhook-id`.",
        "security": [],
        "parameters": [
            {
                "name": "webhook-id",
                "in": "header",
                "required": True,
                "description": "The delivery's id; the same on every try.",
                "schema": {"type": "string"},
            },
            {
                "name": "webhook-timestamp",
                "in": "header",
                "required": True,
                "description": "Seconds since 1970 of this try.",
                "schema": {"type": "integer"},
            },
            {
                "name": "webhook-signature",
                "in": "header",
                "required": True,
                "description": "`v1,` and the base64 HMAC-SHA256 of `id.timestamp.body`; several are "
                "separated by spaces.",
                "schema": {"type": "string"},
            },
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Notification"}}},
        },
        "responses": {"2XX": {"description": "It was taken; any body is ignored."}},
    }
}
