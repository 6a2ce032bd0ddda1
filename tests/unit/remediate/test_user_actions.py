"""The user's own actions against a real HTTP server and real commands."""

import base64
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_http import Answer, Asked
from standardwebhooks import Webhook

from remediate.actions.base import ActionContext, ActionError, Endpoints, Target
from remediate.actions.user import UserActionError, load_user_actions
from remediate.actions.user_slots import Condition, effect_reader, fill_argument, fill_url
from remediate.catalogue import Catalogue

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
CONTEXT = ActionContext("run-1/step-1", Endpoints(), 5.0)
TARGET = Target("checkout", ("process.down",), incident_id="incident-1")


@dataclass
class Actuator:
    url: str = ""
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    delay_seconds: float = 0.0


@pytest.fixture
def actuator(serve_http: Callable[..., str]) -> Actuator:
    state = Actuator()

    def answer(asked: Asked) -> Answer:
        state.seen.append((asked.method, asked.path, dict(asked.headers), asked.body))
        time.sleep(state.delay_seconds)
        status, said = state.answers.pop(0) if state.answers else (200, b'{"effect": "restarted 2 instances"}')
        return Answer(said, status, {"location": "/elsewhere"} if status == 302 else {})

    state.url = serve_http(answer)
    return state


def webhook(directory: Path, url: str, **changes: str) -> Any:
    lines = {
        "name": "shop.restart", "title": '"Restart {service}"', "kind": "http.webhook",
        "params": "{ service: { entity: service } }", "applies_when": "[process.down, hang, error_ratio]",
        "request": f'{{ method: POST, url: "{url}/restart/{{service}}", secret_env: ACTUATOR_SECRET }}',
        "effect": "$.effect", "undo": "none", "timeout_seconds": "5"} | changes
    (directory / "restart.yaml").write_text("".join(f"{k}: {v}\n" for k, v in lines.items() if v))
    return load_user_actions(directory)[0]


def command(directory: Path, code: str, *arguments: str, **changes: str) -> Any:
    argv = json.dumps([sys.executable, "-I", "-c", code, *arguments])
    lines = {"name": "shop.command", "title": "Do", "kind": "command", "applies_when": "[hang]", "argv": argv} | changes
    (directory / "command.yaml").write_text("".join(f"{k}: {v}\n" for k, v in lines.items() if v))
    return load_user_actions(directory)[0]


def test_webhook_is_signed_and_carries_the_key(tmp_path: Path, actuator: Actuator,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTUATOR_SECRET", SECRET)
    action = webhook(tmp_path, actuator.url)
    effect = action.run(action.parameters(TARGET), CONTEXT)
    assert (effect.text, effect.changed) == ("restarted 2 instances", True)
    [(method, path, headers, body)] = actuator.seen
    assert (method, path) == ("POST", "/restart/checkout")
    assert headers["webhook-id"] == "run-1/step-1"
    assert Webhook(SECRET).verify(body, headers) == {"service": "checkout"}


def test_it_registers_like_a_built_in(tmp_path: Path, actuator: Actuator) -> None:
    action = webhook(tmp_path, actuator.url)
    catalogue = Catalogue([action])
    assert catalogue.get("shop.restart") is action
    assert not action.is_reversible and action.applies_when == {"process.down", "hang", "error_ratio"}


@pytest.mark.parametrize("answer", ["0 terminated", "", "none", "No-op: already there", 0, False, None, []])
def test_an_answer_that_says_nothing_was_done_is_not_done(tmp_path: Path, actuator: Actuator, answer: object,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTUATOR_SECRET", SECRET)
    action = webhook(tmp_path, actuator.url)
    actuator.answers.append((200, json.dumps({"effect": answer}).encode()))
    assert not action.run(action.parameters(TARGET), CONTEXT).changed


@pytest.mark.parametrize("body", [b"", b"not json", b"{}", b"[]", b'"text"'])
def test_an_answer_without_the_effect_is_not_done(tmp_path: Path, actuator: Actuator, body: bytes,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTUATOR_SECRET", SECRET)
    action = webhook(tmp_path, actuator.url)
    actuator.answers.append((200, body))
    assert not action.run(action.parameters(TARGET), CONTEXT).changed


@pytest.mark.parametrize(("status", "transient"), [(503, True), (500, True), (429, True), (404, False), (302, False)])
def test_refusals(tmp_path: Path, actuator: Actuator, status: int, transient: bool,
                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTUATOR_SECRET", SECRET)
    action = webhook(tmp_path, actuator.url)
    actuator.answers.append((status, b'{"effect": "restarted"}'))
    with pytest.raises(ActionError) as caught:
        action.run(action.parameters(TARGET), CONTEXT)
    assert caught.value.is_transient is transient
    assert len(actuator.seen) == 1  # a redirect is not followed: it would carry the signature elsewhere


def test_nothing_is_sent_without_the_secret(tmp_path: Path, actuator: Actuator,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACTUATOR_SECRET", raising=False)
    action = webhook(tmp_path, actuator.url)
    with pytest.raises(ActionError, match="ACTUATOR_SECRET") as caught:
        action.run(action.parameters(TARGET), CONTEXT)
    assert caught.value.reason == "no_secret" and actuator.seen == []


def test_webhook_gives_up_in_time(tmp_path: Path, actuator: Actuator) -> None:
    actuator.delay_seconds = 2.0
    action = webhook(tmp_path, actuator.url, timeout_seconds="0.2",
                     request=f'{{ url: "{actuator.url}/x" }}')
    with pytest.raises(ActionError) as caught:
        action.run(action.parameters(TARGET), CONTEXT)
    assert caught.value.reason == "timeout" and caught.value.is_transient


def test_probe_compares_times(tmp_path: Path, actuator: Actuator) -> None:
    action = webhook(tmp_path, actuator.url, request=f'{{ url: "{actuator.url}/x" }}', probe=(
        f'{{ method: GET, url: "{actuator.url}/state/{{service}}", done_when: "body.started_at > run.started_at" }}'))
    actuator.answers += [(200, b'{"started_at": "2020-01-01T00:00:00Z"}'), (200, b'{"started_at": "2999-01-01T00:00:00Z"}'),
                         (200, b'{"other": 1}')]
    params = action.parameters(TARGET)
    assert not action.probe(params, CONTEXT).is_done
    assert action.probe(params, CONTEXT).is_done
    with pytest.raises(ActionError):  # can't be told: never taken for done, never for not done
        action.probe(params, CONTEXT)
    assert [s[:2] for s in actuator.seen] == [("GET", "/state/checkout")] * 3


def test_undo_calls_the_named_action(tmp_path: Path, actuator: Actuator) -> None:
    (tmp_path / "a.yaml").write_text(
        "name: shop.drain\ntitle: Drain\nkind: http.webhook\napplies_when: [latency]\nundo: shop.fill\n"
        f'request: {{ url: "{actuator.url}/drain/{{service}}" }}\n')
    (tmp_path / "b.yaml").write_text(
        "name: shop.fill\ntitle: Fill\nkind: http.webhook\napplies_when: [latency]\n"
        f'request: {{ url: "{actuator.url}/fill/{{service}}" }}\n')
    drain, _ = load_user_actions(tmp_path)
    assert drain.is_reversible
    snapshot = json.loads(json.dumps(drain.snapshot(drain.parameters(TARGET), CONTEXT)))  # as the store keeps it
    assert drain.undo(snapshot, CONTEXT).changed
    assert actuator.seen[-1][1] == "/fill/checkout"


@pytest.mark.parametrize(("changes", "said"), [
    ({"kind": "http.webhok"}, "did you mean 'http.webhook'"),
    ({"kind": "ansible"}, "known are command, http.webhook"),
    ({"aplies_when": "[hang]"}, "aplies_when: unknown key; did you mean 'applies_when'"),
    ({"applies_when": "[process.dwon]"}, "did you mean 'process.down'"),
    ({"applies_when": "[]"}, "empty"),
    ({"applies_when": "[log_rate, log_template]"}, "forged"),
    ({"params": "{ service: { entity: servce } }"}, "did you mean 'service'"),
    ({"params": "{ service: { entty: service } }"}, "did you mean 'entity'"),
    ({"undo": "shop.undo"}, "no action 'shop.undo'"),
    ({"undo": "shop.restart"}, "can't undo itself"),
    ({"timeout_seconds": "-1"}, "timeout_seconds"),
    ({"disruption": "9"}, "disruption"),
    ({"effect": '"$$["'}, "no JSONPath"),
    ({"name": "Restart!"}, "no action name"),
    ({"name": "title: x"}, "not YAML"),
    ({"title": ""}, "title"),
    ({"request": '{ url: "http://{service}/x" }'}, "never in its host"),
    ({"request": '{ url: "file:///etc/passwd" }'}, "http://"),
    ({"request": '{ url: "http://a/{servic}" }'}, "no parameter 'servic'; did you mean 'service'"),
    ({"request": '{ url: "http://a/", methd: POST }'}, "did you mean 'method'"),
    ({"probe": '{ url: "http://a/", done_when: "body. >" }'}, "no CEL"),
])
def test_what_cannot_work_is_refused_with_path_and_line(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    with pytest.raises(UserActionError) as caught:
        webhook(tmp_path, "http://127.0.0.1:1", **changes)
    assert said in str(caught.value)
    path, line, _ = str(caught.value).split(":", 2)
    assert path == str(tmp_path / "restart.yaml") and int(line) >= 1


def test_the_line_is_that_of_the_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserActionError, match=r"restart\.yaml:5: applies_when\.1: no signal kind 'hangs'"):
        webhook(tmp_path, "http://127.0.0.1:1", applies_when="[process.down, hangs]")


def test_two_files_may_not_share_a_name(tmp_path: Path) -> None:
    webhook(tmp_path, "http://127.0.0.1:1")
    (tmp_path / "zz.yaml").write_text((tmp_path / "restart.yaml").read_text())
    with pytest.raises(UserActionError, match=r"zz\.yaml:1: name: another action"):
        load_user_actions(tmp_path)


def test_command_runs_without_a_shell_and_with_little_environment(tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    code = "import os, sys; print(sys.argv[1:], os.environ['OPSMEND_KEY'], os.environ.get('A_SECRET'))"
    action = command(tmp_path, code, "{service}", "$(id)")
    effect = action.run(action.parameters(TARGET), CONTEXT)
    assert effect.changed and effect.text == "['checkout', '$(id)'] run-1/step-1 None"


def test_command_failure_tells_the_exit_code(tmp_path: Path) -> None:
    action = command(tmp_path, "import sys; sys.exit('no such host')")
    with pytest.raises(ActionError, match="exit code 1: no such host"):
        action.run(action.parameters(TARGET), CONTEXT)


def test_command_effect_and_probe(tmp_path: Path) -> None:
    probe = json.dumps({"argv": [sys.executable, "-c", "print('{\"n\": 3}')"], "done_when": "exit_code == 0 && body.n > 2"})
    action = command(tmp_path, "print('{\"terminated\": 0}')", effect="$.terminated", probe=probe)
    params = action.parameters(TARGET)
    assert not action.run(params, CONTEXT).changed
    assert action.probe(params, CONTEXT).is_done


def test_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    marker = tmp_path / "alive"
    code = ("import subprocess, sys; subprocess.run([sys.executable, '-c', "
            f"\"import time, pathlib\\nfor _ in range(100):\\n  pathlib.Path({str(marker)!r}).write_text(str(time.time()))"
            "\\n  time.sleep(.05)\"])")
    action = command(tmp_path, code, timeout_seconds="1.5")
    with pytest.raises(ActionError) as caught:
        action.run(action.parameters(TARGET), CONTEXT)
    assert caught.value.reason == "timeout"
    assert marker.exists()  # the grandchild did run
    before = marker.read_text()
    time.sleep(0.3)
    assert marker.read_text() == before


def test_endless_output_is_bounded(tmp_path: Path) -> None:
    action = command(tmp_path, "import sys\nfor _ in range(400): sys.stdout.write('x' * 65536)\nprint('\\nend')")
    assert len(action.run(action.parameters(TARGET), CONTEXT).text) <= 500


def test_a_service_that_a_command_started_is_left_running(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    child = f"import time, pathlib; time.sleep(.5); pathlib.Path({str(marker)!r}).touch()"
    action = command(tmp_path, f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {child!r}])")
    assert action.run(action.parameters(TARGET), CONTEXT).changed
    deadline = time.monotonic() + 10
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert marker.exists()


@pytest.mark.parametrize("argv", ['["{service}", "x"]', '["echo", "--name={service}"]', "[]"])
def test_argv_that_could_be_abused_is_refused(tmp_path: Path, argv: str) -> None:
    with pytest.raises(UserActionError, match="argv"):
        command(tmp_path, "", argv=argv)


@pytest.mark.parametrize("value", ["-rf", "--all", "a b", "a;b", "$(id)", "a\nb", "../../etc", "", "a\x00"])
def test_unsafe_names_never_become_arguments(value: str) -> None:
    with pytest.raises(ActionError):
        fill_argument("{service}", {"service": value})


@given(st.text(min_size=1))
def test_a_name_never_leaves_its_place_in_a_url(name: str) -> None:
    try:
        url = fill_url("http://h/restart/{service}/now", {"service": name})
    except (ActionError, UnicodeEncodeError):
        return
    middle = url.removeprefix("http://h/restart/").removesuffix("/now")
    assert not set(middle) & set("/?#&\\ \r\n:@") and middle not in ("", ".", "..")


def test_effect_reader_takes_numbers_and_lists() -> None:
    read = effect_reader("$.steps[*].n")
    assert read({"steps": [{"n": 0}, {"n": 2}]}).changed
    assert not read({"steps": [{"n": 0}]}).changed


def test_condition_must_give_a_bool() -> None:
    with pytest.raises(ActionError):
        Condition("body.n").holds({"body": {"n": 1}}, key="", started_ns=0)
    later = Condition("body.at_seconds > run.started_at_seconds")
    assert later.holds({"body": {"at_seconds": 2.5}}, key="", started_ns=2 * 10**9)
    assert not later.holds({"body": {"at_seconds": 1.5}}, key="", started_ns=2 * 10**9)
