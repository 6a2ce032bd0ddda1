"""The calling service: asks checkout ten times a second; tells about itself in NDJSON and JSON log lines."""

import http.client
import json
import os
import time

from confluent_kafka import Producer

PARENT = os.getppid()
kafka = Producer({"bootstrap.servers": os.environ["KAFKA"]})


def asked():
    """Whether checkout answered, and in how many seconds."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ["CHECKOUT_PORT"]), timeout=1)
    try:
        connection.request("GET", "/")
        ok = connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        ok = False
    finally:
        connection.close()
    return ok, time.monotonic() - began


while os.getppid() == PARENT:
    answers = []
    until = time.monotonic() + 1
    while time.monotonic() < until:
        answers.append(asked())
        time.sleep(0.1)
    failed = sum(not ok for ok, _ in answers) / len(answers)
    slowest = max(seconds for _, seconds in answers)
    points = [("http.server.error_ratio", failed, ""), ("client.error_ratio", failed, "checkout"),
              ("client.requests_per_second", len(answers), "checkout"),
              ("client.latency_p95_seconds", slowest, "checkout"), ("process.up", 1, "")]
    kafka.produce("metrics", "\n".join(json.dumps(
        {"type": "metric", "ts": time.time(), "service": "front", "name": name, "value": value, "peer": peer})
        for name, value, peer in points))
    message = "checkout does not answer" if failed else "checkout answers"
    kafka.produce("logs", json.dumps({"service": "front", "level": "error" if failed else "info", "message": message,
                                      "timestamp": time.time()}))
    kafka.flush(5)
