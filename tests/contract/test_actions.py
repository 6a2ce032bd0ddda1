"""One contract over every action of the catalogue, with a real HTTP server where they speak HTTP. Service names are
written by whoever may write telemetry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from small_http import Answer, Asked

from detect.types import SIGNAL_KINDS
from ingest.types import Change
from remediate.actions.base import Action, ActionContext, ActionError, Effect, Endpoints, Probe, Target, risk_of
from remediate.catalogue import Catalogue

ACTIONS = {action.name: action for action in Catalogue()}
HOSTILE = ["cart", "../../admin", "..", ".", "cart/../bank", "cart?key=1#x", "cart%2fbank", "a b\r\nx-actor: root", "$(reboot)",
           "`id`;'\"", "http://evil.example/", "//evil.example", "ünï☃", "cart\x00", "{{7*7}}", "-rf", "x" * 500]
KEY = "run-1/back"


class Actuator:
    """Does what it is told, once a key, and writes down every request as it came over the wire."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: list[tuple[str, str, dict[str, Any]]] = []
        self.headers_seen: list[Mapping[str, str]] = []
        self.version, self.desired, self.effects = "v2", 2, list[str]()

    def answer(self, asked: Asked) -> Answer:
        body = asked.json()
        self.seen.append((asked.method, asked.path, body))
        self.headers_seen.append(asked.headers)
        verb = asked.path.rsplit("/", 1)[-1]
        if asked.method == "GET":
            return Answer({"version": self.version, "desired": self.desired, "effects": self.effects, "instances": []})
        if verb == "scale":
            self.desired = body["instances"]
        elif verb in ("rollback", "rollforward"):
            self.version = body.get("to", "v1")
        self.effects.append(body.get("key", ""))
        return Answer({"effect": f"{verb} done", "changed": True})


@pytest.fixture
def actuator(serve_http: Callable[..., str]) -> Actuator:
    found = Actuator()
    found.url = serve_http(found.answer)
    return found


def context(actuator: Actuator | None = None, **changes: Any) -> ActionContext:
    url = actuator.url if actuator else ""
    return ActionContext(KEY, Endpoints(url, "a-token", notify_url=f"{url}/notify" if url else ""), 5.0, **changes)


def target(service: str = "cart") -> Target:
    return Target(service, ("process.down",), Change(1, service, "rollout", "v2", "v1", "ci"), False, "incident-1",
                  "cart is down: $(reboot)")


over_all = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
over_actuator = pytest.mark.parametrize("action", [a for a in ACTIONS.values() if hasattr(a, "verb")], ids=lambda a: a.name)


@over_all
def test_what_an_action_says_of_itself(action: Action) -> None:
    assert action.applies_when <= set(SIGNAL_KINDS)
    assert not action.applies_when & {"log_rate", "log_template"} or action.needs_change, "log lines alone never suffice"
    assert action.disruption in (0, 1, 2, 3)
    assert risk_of(action, 0.0) in ("low", "medium", "high")
    assert "{service}" in action.title


@pytest.mark.parametrize("service", HOSTILE)
@over_all
def test_parameters_come_from_the_target_alone(action: Action, service: str) -> None:
    params = action.parameters(target(service))
    assert params == action.parameters(target(service))
    assert params["service"] == service
    facts = {service, "incident-1", "cart is down: $(reboot)", "v1"}
    assert all(v in facts or isinstance(v, (int, float)) for v in params.values())
    assert msgspec.json.decode(msgspec.json.encode(params)) == params  # it can be hashed, stored and shown


@over_all
def test_without_a_place_to_act_nothing_is_done_and_said(action: Action) -> None:
    if action.name == "notify":
        assert action.run(action.parameters(target()), context()).changed  # the log is a place
        return
    for call in (action.probe, action.run, action.snapshot):
        with pytest.raises(ActionError) as told:
            call(action.parameters(target()), context(snapshot={"desired": 1}))
        assert told.value.reason == "no_actuator"
        assert not told.value.is_transient


@pytest.mark.parametrize("service", HOSTILE)
@over_actuator
def test_a_name_stays_one_piece_of_the_path(action: Action, service: str, actuator: Actuator) -> None:
    """Refused, or sent so that the other side reads exactly this name, and under no other path."""
    params = action.parameters(target(service))
    try:
        snapshot = action.snapshot(params, context(actuator))
        action.probe(params, context(actuator))
        action.run(params, context(actuator, snapshot=snapshot))
        action.undo(snapshot, context(actuator))
    except ActionError:
        assert service in (".", "..")
        assert actuator.seen == []
        return
    assert len(actuator.seen) >= 4
    for _, path, _ in actuator.seen:
        begin, api, services, name, *verb = path.split("/")
        assert (begin, api, services) == ("", "v1", "services")
        assert unquote(name) == service
        assert len(verb) <= 1
        assert "?" not in path
    assert all(h["x-actor"] == "opsmend" for h in actuator.headers_seen)
    assert all(h["authorization"] == "Bearer a-token" for h in actuator.headers_seen)


@over_actuator
def test_done_is_seen_by_its_key_and_undo_is_shown_not_believed(action: Action, actuator: Actuator) -> None:
    params = action.parameters(target())
    assert action.probe(params, context(actuator)) == Probe(False, "version v2")
    snapshot = action.snapshot(params, context(actuator))
    assert msgspec.json.decode(msgspec.json.encode(snapshot)) == snapshot
    effect = action.run(params, context(actuator, snapshot=snapshot))
    assert isinstance(effect, Effect)
    assert effect.changed
    assert action.probe(params, context(actuator)).is_done
    assert [body["key"] for method, _, body in actuator.seen if method == "POST"] == [KEY]
    assert action.undo(snapshot, context(actuator)).changed
    assert (actuator.version, actuator.desired) == ("v2", 2)
    actuator.version = "v9"  # somebody else went on
    if action.name != "release.rollback":  # that one brings the version back itself
        assert not action.undo(snapshot, context(actuator)).changed


def test_a_second_try_does_not_add_a_second_instance(actuator: Actuator) -> None:
    action = ACTIONS["process.scale"]
    params = action.parameters(target())
    snapshot = action.snapshot(params, context(actuator))
    for _ in range(3):
        action.run(params, context(actuator, snapshot=snapshot, is_repeat=True))
    assert actuator.desired == 3
