"""Events out, to a real HTTP receiver that fails, from a real store, over kill -9."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from small_http import Answer, Asked
from standardwebhooks import Webhook

from detect.types import Breach, Incident, Signal
from opsmend.cloudevents import PUBLIC_TYPES
from opsmend.compose import receivers
from opsmend.config import ConfigError, Settings
from opsmend.metrics import ServiceMetrics
from opsmend.outlet import Outlet
from opsmend.outlet_webhook import WebhookReceiver
from opsmend.store import outbox
from opsmend.store.engine import open_engine
from opsmend.store.outbox import Event, add_event, cursors, last_seq, trim_events
from opsmend.store.records import Records

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
T = 1_780_000_000 * 10**9
OPENED = "io.opsmend.incident.opened"


@dataclass
class Hook:
    """What the receiver got, and what it answers next (200 when the list is empty)."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    refused: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    retry_after: str = ""
    refuse_subject: str = ""

    def subjects(self) -> list[str]:
        return [e["subject"] for e in self.taken]


@pytest.fixture
def hook(serve_http: Callable[..., str]) -> Hook:
    state = Hook()

    def answer(asked: Asked) -> Answer:
        headers = dict(asked.headers)
        event = Webhook(SECRET).verify(asked.body.decode(), headers) if "webhook-signature" in headers else asked.json()
        status = state.answers.pop(0) if state.answers else 200
        if state.refuse_subject and event["subject"] == state.refuse_subject:
            status = 422
        if status == 200:
            state.taken.append(event)
            state.headers.append(headers)
        else:
            state.refused += 1
        return Answer(status=status, headers={"retry-after": state.retry_after} if state.retry_after else {})

    state.url = f"{serve_http(answer)}/hook"
    return state


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'opsmend.db'}")
    yield engine
    engine.dispose()


def tell(engine: sa.Engine, *subjects: str, kind: str = OPENED) -> None:
    with engine.begin() as c:
        for subject in subjects:
            add_event(c, kind, subject, T, {"id": subject, "opened_ns": T, "closed_ns": 0})


def outlet(engine: sa.Engine, hook: Hook, **kwargs: Any) -> Outlet:
    receiver = WebhookReceiver(hook.url, kwargs.pop("secret", SECRET), kwargs.pop("types", ()), "default")
    return Outlet(engine, [receiver], first_pause_seconds=0.02, longest_pause_seconds=0.2, **kwargs)


def wait(check: Any, seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_events_arrive_signed_in_order_once_the_receiver_is_well(engine: sa.Engine, hook: Hook) -> None:
    tell(engine, "before")  # was there before the receiver was configured
    hook.answers = [503, 500, 404, 200, 429]
    results: list[str] = []
    running = outlet(engine, hook, on_result=lambda kind, result: results.append(f"{kind} {result}"))
    running.start()
    tell(engine, "i1", "i2", "i3")
    tell(engine, "quiet", kind="io.opsmend.run.step")  # not for the outside
    wait(lambda: len(hook.taken) == 3)
    wait(lambda: set(cursors(engine).values()) == {last_seq(engine)})
    running.stop()
    assert hook.subjects() == ["i1", "i2", "i3"]
    assert hook.refused == 4
    assert (results.count("webhook retried"), results.count("webhook sent")) == (4, 3)
    event, headers = hook.taken[0], hook.headers[0]
    assert event["specversion"] == "1.0" and event["type"] == OPENED and event["source"] == "/opsmend/default"
    assert event["id"] == headers["webhook-id"]
    assert headers["content-type"] == "application/cloudevents+json"
    assert event["time"] == "2026-05-28T20:26:40.000Z"
    assert event["data"] == {"id": "i1", "opened_at": "2026-05-28T20:26:40.000Z", "closed_at": None}


def test_what_was_missed_comes_after_a_restart_and_nothing_twice(engine: sa.Engine, hook: Hook) -> None:
    first = outlet(engine, hook)
    first.start()
    tell(engine, "i1")
    wait(lambda: hook.subjects() == ["i1"])
    first.stop()
    tell(engine, "i2", "i3")
    second = outlet(engine, hook)
    second.start()
    wait(lambda: len(hook.taken) == 3)
    second.stop()
    assert hook.subjects() == ["i1", "i2", "i3"]


def test_retry_after_is_honoured(engine: sa.Engine, hook: Hook) -> None:
    hook.answers, hook.retry_after = [503], "1"
    receiver = WebhookReceiver(hook.url, "", (), "default")
    running = Outlet(engine, [receiver], first_pause_seconds=0.01)
    running.start()
    tell(engine, "i1")
    wait(lambda: hook.refused == 1)
    began = time.monotonic()
    wait(lambda: len(hook.taken) == 1)
    running.stop()
    assert time.monotonic() - began > 0.8
    assert "webhook-signature" not in hook.headers[0]


def test_an_event_that_is_refused_for_its_content_does_not_hold_up_the_rest(engine: sa.Engine, hook: Hook) -> None:
    hook.refuse_subject = "bad"
    results: list[str] = []
    running = outlet(engine, hook, on_result=lambda kind, result: results.append(result))
    running.start()
    tell(engine, "i1", "bad", "i2")
    wait(lambda: len(hook.taken) == 2)
    running.stop()
    assert hook.subjects() == ["i1", "i2"]
    assert results.count("refused") == 1 and hook.refused == 5


def test_only_the_named_types_are_sent(engine: sa.Engine, hook: Hook) -> None:
    running = outlet(engine, hook, types=["io.opsmend.run.finished"])
    running.start()
    tell(engine, "i1")
    tell(engine, "r1", kind="io.opsmend.run.finished")
    wait(lambda: len(hook.taken) == 1)
    running.stop()
    assert hook.subjects() == ["r1"]


CHILD = """
import sys, time
from opsmend.metrics import ServiceMetrics
from opsmend.outlet import Outlet
from opsmend.outlet_webhook import WebhookReceiver
from opsmend.store.engine import open_engine
engine = open_engine(sys.argv[1])
Outlet(engine, [WebhookReceiver(sys.argv[2], sys.argv[3], (), "default")], first_pause_seconds=0.01).start()
print("started", flush=True)
time.sleep(600)
"""


def test_nothing_is_lost_over_kill_minus_nine(engine: sa.Engine, hook: Hook) -> None:
    def start() -> subprocess.Popen[bytes]:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(engine.url), hook.url, SECRET], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"started\n"
        return child

    subjects = [f"i{n:03}" for n in range(60)]
    child = start()
    tell(engine, *subjects)
    for enough in (10, 30):
        wait(lambda enough=enough: len(hook.taken) >= enough)
        child.kill()
        child.communicate()
        child = start()
    try:
        wait(lambda: set(hook.subjects()) == set(subjects))
    finally:
        child.kill()
        child.communicate()
    assert len(hook.taken) <= 62  # at most the one at hand comes again, for each kill
    ids = {e["subject"]: e["id"] for e in hook.taken}
    assert all(ids[e["subject"]] == e["id"] for e in hook.taken)


def test_a_receiver_that_is_away_keeps_its_events_up_to_a_bound(engine: sa.Engine, hook: Hook,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "KEEP_EVENTS", 5)
    monkeypatch.setattr(outbox, "KEEP_FOR_RECEIVERS", 20)
    hook.answers = [503] * 100_000
    running = outlet(engine, hook)
    running.start()
    tell(engine, *[f"i{n}" for n in range(15)])

    def kept() -> int:
        with engine.begin() as c:
            trim_events(c)
        return len(outbox.events_since(engine, 0))

    assert kept() == 15
    tell(engine, *[f"j{n}" for n in range(15)])
    assert kept() == 20
    running.stop()


def test_a_breach_is_told_when_it_is_first_predicted(engine: sa.Engine) -> None:
    records = Records(engine, retention_seconds=3600)
    breach = Breach("disk", 1.0, "up", T, T, T, 0.9)
    plain = Signal("s1", "default", "d", "latency", "cart", T, T, 0.5, "k")
    ahead = Signal("s2", "default", "d", "breach", "cart", T, T, 0.5, "k2", breach=breach)
    incident = Incident("i1", "default", "f", T, T, "open", "warning", "x", ("cart",), (plain,), (), T)
    records.put_alone(incident)
    import msgspec

    with_forecast = msgspec.structs.replace(incident, signals=(plain, ahead))
    records.put_alone(with_forecast)
    records.put_alone(with_forecast)
    types = [(e.type, e.subject) for e in outbox.events_since(engine, 0)]
    assert types.count(("io.opsmend.breach.predicted", "s2")) == 1
    assert "io.opsmend.breach.predicted" in PUBLIC_TYPES


def test_a_secret_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="not base64"):
        WebhookReceiver("http://user:pw@localhost/x?token=1", "whsec_!!", (), "default")
    name = WebhookReceiver("http://user:pw@localhost/x?token=1", "", (), "default").name
    assert "pw" not in name and "token" not in name


def test_receivers_are_those_of_the_configuration(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = [{"url": "http://localhost/a", "secret_env": "HOOK_SECRET"}, {"url": "http://localhost/a",
                                                                        "types": ["io.opsmend.run.finished"]}]
    kafka = {"transport": "kafka", "kafka": {"bootstrap_servers": "localhost:9"}}
    with pytest.raises(ConfigError, match="HOOK_SECRET"):
        receivers(Settings.model_validate({"webhooks": hooks}), engine)
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    embedded = receivers(Settings.model_validate({"webhooks": hooks}), engine)
    assert [r.kind for r in embedded] == ["webhook", "webhook"] and len({r.name for r in embedded}) == 2
    assert [r.kind for r in receivers(Settings.model_validate({"ingest": kafka}), engine)] == ["topics"]
    silent = Settings.model_validate({"ingest": kafka, "outlet": {"topics": False}})
    assert receivers(silent, engine) == []


class Stumbles(WebhookReceiver):
    """A receiver with an error in it, which shows once."""

    stumbled = 0

    def deliver(self, events: Sequence[Event]) -> None:
        if not self.stumbled:
            self.stumbled = 1
            raise KeyError("no such thing")
        super().deliver(events)


def test_a_bug_of_ours_is_no_retry_like_any_other(engine: sa.Engine, hook: Hook) -> None:
    hook.answers = [503]
    metrics = ServiceMetrics()
    running = Outlet(engine, [Stumbles(hook.url, SECRET, (), "default")], first_pause_seconds=0.02,
                     on_result=metrics.delivery)
    running.start()
    tell(engine, "i1")
    wait(lambda: hook.subjects() == ["i1"])
    running.stop()
    assert {outcome: metrics.registry.get_sample_value(
        "opsmend_outlet_events_total", {"receiver": "webhook", "outcome": outcome})
        for outcome in ("sent", "retried", "bug")} == {"sent": 1.0, "retried": 1.0, "bug": 1.0}
