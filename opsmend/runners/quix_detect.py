"""Detection on Quix Streams: envelopes in, judgements out, state in RocksDB with a changelog, exactly once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from quixstreams import Application, message_context
from quixstreams.kafka.configuration import ConnectionConfig

from detect.config import DetectionConfig
from ingest.transports.kafka_confluent import client_settings
from ingest.types import DeadLetter
from opsmend.runners.quix_envelope import EnvelopeError, Judgement, encode, open_envelope
from opsmend.runners.quix_fence import new_name
from opsmend.runners.quix_settings import ENVELOPES, SIGNALS, QuixConfig
from opsmend.runners.quix_shard import Shard
from opsmend.runners.quix_state import LiveShards

log = structlog.get_logger()
_MAX_REFUSED = 20
"""Envelopes that a process sets aside before it takes the fault to be ours and ends."""


class Detector(Application):
    """The engine's application, run in a thread that somebody else stops."""

    def _setup_signal_handlers(self) -> None:
        """Signals are the service's: a thread may not take them."""


class EnvelopeFailed(Exception):
    """A shard could not digest an envelope. `place` is (shard, offset)."""

    def __init__(self, place: tuple[int, int], error: Exception) -> None:
        super().__init__(f"shard {place[0]}, envelope {place[1]}: {error!r}")
        self.place = place


class Judge:
    """What the application does with each envelope."""

    def __init__(self, config: QuixConfig, detection: DetectionConfig, refused: dict[tuple[int, int], str],
                 on_envelope: Callable[[int], None]) -> None:
        self._config = config
        self.shards = LiveShards(lambda n: Shard(n, detection, idle_seconds=config.idle_seconds))
        self._refused = refused
        self._on_envelope = on_envelope

    def __call__(self, value: bytes, state: Any) -> list[bytes]:
        context = message_context()
        number, offset = context.partition, context.offset
        shard = self.shards.shard(number, state)
        place = (number, offset)
        if (why := self._refused.get(place)) is not None:
            letter = DeadLetter(ENVELOPES, number, offset, 0, "step_failed", why, value)
            return [encode(Judgement(shard.tell(()), (letter,)))]
        lines = shard.lines
        try:
            news = shard.step(open_envelope(value))
        except EnvelopeError as error:
            letter = DeadLetter(ENVELOPES, number, offset, 0, error.reason, str(error), value)
            return [encode(Judgement(shard.tell(()), (letter,)))]
        except Exception as error:
            # Half of it may have been taken in: back to what was committed, and without this envelope from there on.
            raise EnvelopeFailed(place, error) from error
        self._on_envelope(shard.lines - lines)
        return [] if news is None else [encode(Judgement(news))]


def application(config: QuixConfig, judge: Judge) -> Detector:
    """The application. Nothing is connected before it runs."""
    name = new_name(config.detect_group)
    app = Detector(
        ConnectionConfig.from_librdkafka_dict(client_settings(config.transport), ignore_extras=True),
        consumer_group=config.detect_group, auto_offset_reset="earliest", state_dir=config.state_dir,
        processing_guarantee="exactly-once", commit_interval=config.commit_seconds, consumer_poll_timeout=0.1,
        loglevel="WARNING", auto_create_topics=True,
        consumer_extra_config={"client.id": name, "session.timeout.ms": int(config.session_timeout_seconds * 1000),
                               "heartbeat.interval.ms": int(config.session_timeout_seconds * 250),
                               "fetch.wait.max.ms": 100, "queued.max.messages.kbytes": 65536},
        producer_extra_config={**config.producer_settings(), "transactional.id": name})
    envelopes = app.topic(ENVELOPES, key_deserializer="bytes", value_deserializer="bytes")
    signals = app.topic(SIGNALS, key_serializer="bytes", value_serializer="bytes")
    frame = app.dataframe(envelopes)
    key = config.tenant.encode()
    frame = frame.apply(judge, stateful=True, expand=True)
    frame = frame.to_topic(signals, key=lambda _: key)
    frame.sink(judge.shards)
    return app


def detect(config: QuixConfig, detection: DetectionConfig, stop: threading.Event, *,
           on_envelope: Callable[[int], None] = lambda lines: None) -> None:
    """Run until `stop`. An envelope that makes a stage fail is set aside and told as a dead letter; too many of
    them raise EnvelopeFailed."""
    refused: dict[tuple[int, int], str] = {}
    while not stop.is_set():
        app = application(config, Judge(config, detection, refused, on_envelope))
        ended = threading.Event()
        watch = threading.Thread(target=_stop_with, args=(app, stop, ended), daemon=True)
        watch.start()
        try:
            app.run()
        except EnvelopeFailed as error:
            if len(refused) >= _MAX_REFUSED:
                raise
            log.error("detect.envelope_set_aside", shard=error.place[0], offset=error.place[1], error=str(error),
                      exc_info=True)
            refused[error.place] = str(error)[:500]
        finally:
            ended.set()
            watch.join()


def _stop_with(app: Application, stop: threading.Event, ended: threading.Event) -> None:
    while not ended.is_set():
        if stop.is_set():
            app.stop()
            return
        time.sleep(0.1)
