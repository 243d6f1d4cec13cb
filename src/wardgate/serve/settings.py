"""Every knob of the server, in one frozen place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server behaves. Every limit has a unit in its name or in its line here.

    Attributes:
        max_body_bytes: the largest request body; more is refused with 413 before it is read.
        max_inputs: the most texts in one call; more is refused in the endpoint's own error format.
        body_timeout_s: how long a client may take to send its body.
        header_timeout_s: how long a client may take to send its request line and headers.
        max_header_bytes: the most bytes before the headers end.
        batch_tokens: the token budget of one batch (estimated at four UTF-8 bytes a token).
        batch_items: the most texts in one batch.
        linger_ms: how long an idle scorer waits for a batch to fill. 0 scores at once: batches then form by
            themselves while the scorer is busy.
        queue_items: the most texts that may wait.
        queue_delay_s: the longest expected wait that is still accepted; above it callers get 429.
        timeout_s: how long a request may take from admission to answer.
        scorers: threads that score, each a batch of its own; ONNX Runtime has threads of its own inside each.
        drain_s: how long SIGTERM waits for what was accepted.
        allow_unauthenticated: serve beyond loopback without any key. Off unless said in as many words.
        metrics_open: whether `/metrics` needs no key although keys are configured.
        cors_origins: origins that browsers may call from; empty turns CORS off.
        holdback_chars: how many judged characters of a stream stay held until more was judged after them.
        debounce_chars: how many new characters of a stream are gathered before scoring again.
        debounce_ms: how long new characters of a stream may wait for more before they are scored anyway.
        window_chars: how many characters before the new ones are scored again with them, for context.
        opening_chars: how much of an answer beside its prompt tells whether it declines; nothing stops it earlier.
        max_stream_chars: the longest stream.
        stream_idle_s: how long a stream may be silent.
        idempotency_ttl_s: how long the answer to an idempotency key is kept.
        idempotency_entries: how many such answers are kept.
        review_blocks: whether a gateway that can only pass or block is told to block what needs review.
        access_log: whether each request is logged.
    """

    max_body_bytes: int = 1 << 20
    max_inputs: int = 512
    body_timeout_s: float = 10.0
    header_timeout_s: float = 10.0
    max_header_bytes: int = 64 << 10
    batch_tokens: int = 4096
    batch_items: int = 64
    linger_ms: float = 0.0
    queue_items: int = 2048
    queue_delay_s: float = 3.0
    timeout_s: float = 10.0
    scorers: int = 1
    drain_s: float = 20.0
    allow_unauthenticated: bool = False
    metrics_open: bool = False
    cors_origins: tuple[str, ...] = ()
    holdback_chars: int = 80
    debounce_chars: int = 40
    debounce_ms: float = 200.0
    window_chars: int = 400
    opening_chars: int = 250
    max_stream_chars: int = 200_000
    stream_idle_s: float = 60.0
    idempotency_ttl_s: float = 600.0
    idempotency_entries: int = 10_000
    review_blocks: bool = True
    access_log: bool = True

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "max_inputs", "batch_tokens", "batch_items", "queue_items", "scorers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("timeout_s", "queue_delay_s", "body_timeout_s", "header_timeout_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.queue_items < self.max_inputs:
            raise ValueError("queue_items must be at least max_inputs, or a large call could never be accepted")
