"""A client of gRPC's C++ implementation, on channels that it keeps.

GET /?target=…&method=…&calls=…&user=…&baggage=…&lane=…&secure=1&wait=0 answers with how often which answer came:
{"v1 POD CALLER": 90, "UNAVAILABLE: …": 10}. It tries nothing twice; with wait=1 a call waits until there is a connection.
"""
import json, threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import grpc
import grpc.experimental

channels, lock = {}, threading.Lock()


def channel(target, secure):
    with lock:
        if (target, secure) not in channels:
            plain = grpc.experimental.insecure_channel_credentials()
            credentials = grpc.xds_channel_credentials(plain) if secure else plain
            channels[target, secure] = grpc.secure_channel(target, credentials)
        return channels[target, secure]


def call(target, method="Greet", calls="1", user="", baggage="", lane="", secure="1", wait="0"):
    invoke = channel(target, secure == "1").unary_unary(f"/shop.Greeter/{method}")
    answers = Counter()
    for _ in range(int(calls)):
        try:
            told = [("x-user", user), ("baggage", baggage), ("x-tulle-lane", lane)]
            metadata = [(name, value) for name, value in told if value]
            answers[invoke(b"", timeout=20, metadata=metadata, wait_for_ready=wait == "1").decode()] += 1
        except grpc.RpcError as error:
            answers[f"{error.code().name}: {error.details()}"] += 1
    return answers


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps(call(**dict(parse_qsl(urlsplit(self.path).query)))).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_):
        pass


ThreadingHTTPServer(("", 7000), Handler).serve_forever()
