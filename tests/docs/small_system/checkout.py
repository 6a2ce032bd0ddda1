"""The called service: HTTP on CHECKOUT_PORT; tells about itself in OTLP/JSON."""

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from confluent_kafka import Producer

PARENT = os.getppid()
served = [0]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        served[0] += 1
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def resource():
    return {"attributes": [{"key": "service.name", "value": {"stringValue": "checkout"}}]}


def gauge(name, value):
    point = {"timeUnixNano": str(time.time_ns()), "asDouble": value}
    return {"name": name, "gauge": {"dataPoints": [point]}}


ThreadingHTTPServer.allow_reuse_address = True
server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["CHECKOUT_PORT"])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
kafka = Producer({"bootstrap.servers": os.environ["KAFKA"]})
while os.getppid() == PARENT:  # the supervisor was killed: do not outlive it
    rate, served[0] = served[0], 0
    metrics = [gauge("http.server.requests_per_second", rate), gauge("http.server.error_ratio", 0.0)]
    kafka.produce("metrics", json.dumps(
        {"resourceMetrics": [{"resource": resource(), "scopeMetrics": [{"metrics": metrics}]}]}))
    line = {"timeUnixNano": str(time.time_ns()), "severityNumber": 9, "body": {"stringValue": f"served {rate} requests"}}
    kafka.produce("logs", json.dumps(
        {"resourceLogs": [{"resource": resource(), "scopeLogs": [{"logRecords": [line]}]}]}))
    kafka.flush(5)
    time.sleep(1)
