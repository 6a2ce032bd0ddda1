"""What the Kubernetes API may answer besides what is asked for."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from small_http import Answer, Asked, small_http

from ingest.errors import OpsmendError, TransportError
from opsmend.kubernetes import ApiServer, read_facts


@pytest.mark.parametrize("answer", [
    Answer({"reason": "Expired"}, 410), Answer(b"slow down", 429), Answer(b"", 503), Answer(b"<html>"), Answer(b"\xff"),
    Answer(b"{}", headers={"transfer-encoding": "chunked"})])
def test_what_may_be_better_in_a_minute_is_no_question_of_rights(answer: Answer) -> None:
    with small_http(lambda asked: answer) as url, pytest.raises(TransportError) as caught:
        read_facts(ApiServer(url))
    assert url in str(caught.value) and "ClusterRole" not in str(caught.value)


def test_the_token_goes_to_no_other_server(tmp_path: Path) -> None:
    asked: list[Asked] = []
    (token := tmp_path / "token").write_text("s3cret")
    with (small_http(lambda one: asked.append(one) or Answer({})) as other,  # type: ignore[func-returns-value]
          small_http(lambda one: Answer(status=302, headers={"location": f"{other}{one.path}"})) as url):
        with pytest.raises(TransportError, match="302"):
            read_facts(ApiServer(url, token))
    assert asked == []


def test_nobody_there() -> None:
    with small_http(lambda asked: Answer()) as url:
        pass
    with pytest.raises(TransportError):
        read_facts(ApiServer(url))


@pytest.mark.parametrize("status", [401, 403])
def test_rights_are_named_where_they_are_missing(status: int) -> None:
    with small_http(lambda asked: Answer({}, status)) as url, pytest.raises(OpsmendError, match="ClusterRole") as caught:
        read_facts(ApiServer(url))
    assert not caught.value.is_transient


def test_all_pages_are_read() -> None:
    def answer(asked: Asked) -> Answer:
        if not asked.path.startswith("/api/v1/pods"):
            return Answer({"items": None, "metadata": {}})
        n = 1 if "continue=a%2Bb" in asked.path else 0
        return Answer({"items": [{"metadata": {"name": f"cart-{n}", "namespace": "shop"}, "spec": {"nodeName": f"n{n}"}}],
                       "metadata": {} if n else {"continue": "a+b"}})

    with small_http(answer) as url:
        assert [(name, labels["pod"], labels["node"]) for name, labels in read_facts(ApiServer(url))] == [
            ("kube_pod_info", "cart-0", "n0"), ("kube_pod_info", "cart-1", "n1")]


def dribble(connection: socket.socket) -> None:
    """An answer that never ends, and is never silent for long."""
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        time.sleep(0.02)


def silence(connection: socket.socket) -> None:
    """Somebody who has the connection, and nothing to say."""
    connection.recv(1000)
    time.sleep(60)


def pages_without_end(connection: socket.socket) -> None:
    body = b'{"items": [], "metadata": {"continue": "x"}}'
    while connection.recv(10_000):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


@pytest.mark.parametrize("answer", [dribble, silence, pages_without_end])
def test_every_round_has_an_end(answer: Callable[[socket.socket], None]) -> None:
    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=speak, args=(connection,), daemon=True).start()

    def speak(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        server = ApiServer(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_seconds=0.5, round_seconds=1.0)
        began = time.monotonic()
        with pytest.raises(TransportError, match="pods"):
            read_facts(server)
        assert time.monotonic() - began < 1.9
