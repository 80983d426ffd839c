"""speak.py PROTOCOL=HOST:PORT…: how long each conversation takes from the connection to the first answer.

Prints {PROTOCOL: {"first": ms, "median": ms, "least": ms}}. Each time on a connection of its own.
"""
import http.client, json, smtplib, statistics, sys, time

import grpc, pg8000.native
from websockets.sync.client import connect

TIMES = 15


def smtp(host, port):
    server = smtplib.SMTP(host, port)  # until the server has greeted
    return server.close


def postgresql(host, port):
    database = pg8000.native.Connection("postgres", host=host, port=port)
    assert database.run("SELECT count(*) FROM ratings") == [[3]]
    return database.close


def websocket(host, port):
    chat = connect(f"ws://{host}:{port}/", proxy=None)
    chat.send("hello")
    assert chat.recv() == "hello"
    return chat.close


def calls(host, port):
    channel = grpc.insecure_channel(f"{host}:{port}", [("grpc.use_local_subchannel_pool", 1)])
    get = channel.unary_unary("/grpc.health.v1.Health/Check")
    assert get(b"", timeout=5) == b"\x08\x01"  # SERVING
    return channel.close


def unlisted(host, port):
    connection = http.client.HTTPConnection(host, port)
    connection.request("GET", "/")
    assert b"Active connections" in connection.getresponse().read()
    return connection.close


SPEAK = {"SMTP": smtp, "PostgreSQL": postgresql, "WebSocket": websocket, "gRPC": calls, "HTTP, unlisted port": unlisted}


def took(speak, host, port):
    start = time.perf_counter()
    close = speak(host, int(port))
    milliseconds = (time.perf_counter() - start) * 1e3
    close()
    return milliseconds


said = {}
for argument in sys.argv[1:]:
    protocol, where = argument.split("=")
    times = [took(SPEAK[protocol], *where.split(":")) for _ in range(TIMES)]
    said[protocol] = {"first": times[0], "median": statistics.median(times), "least": min(times)}
print(json.dumps(said))
