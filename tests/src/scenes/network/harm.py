"""harm.py serve: gRPC on port 9000, HTTP on port 8080, which tell what they see of those who call.

harm.py ask ADDRESS MIB: calls them there by all kinds of gRPC, with events, a long poll and an upload of so many MiB,
and prints what both ends see, a line for each thing.
"""
import hashlib, json, signal, subprocess, sys, threading, time
from concurrent import futures
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc

ALL = bytes(range(256))
ASKED = (("x-one", "1"), ("x-twice", "a"), ("x-twice", "b"), ("x-raw-bin", ALL))
INITIAL = (("x-initial", "1"), ("x-both", "a"), ("x-both", "b"), ("x-initial-bin", ALL))
TRAILING = (("x-trailing", "t"), ("x-trailing-bin", b"\0\xff"))
FAILED = TRAILING + (("grpc-status-details-bin", b"\x08\x09\x12\x02no"),)
WHY = "no: 100 % of it, \u00fcber\n all"


def shown(name, value):
    return f"{name}: {value.hex() if isinstance(value, bytes) else value}"


# The server.


def told(context):
    """Says what it has to say of a call, and what it saw of it."""
    asked = context.invocation_metadata()
    if ("x-gzip", "1") in [tuple(pair) for pair in asked]:
        context.set_compression(grpc.Compression.Gzip)
    context.send_initial_metadata(INITIAL)
    context.set_trailing_metadata(TRAILING)
    lines = [shown(name, value) for name, value in asked]
    return "\n".join(lines + [f"deadline: {context.time_remaining() is not None}"]).encode() + b"\0"


def down(request, context):
    yield told(context)
    yield from [request] * 3


def both(requests, context):
    yield told(context)
    yield from requests


def fail(request, context):
    context.set_trailing_metadata(FAILED)
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, WHY)


def fail_late(request, context):
    yield told(context)
    fail(request, context)


KINDS = {
    "Unary": grpc.unary_unary_rpc_method_handler(lambda request, context: told(context) + request),
    "Up": grpc.stream_unary_rpc_method_handler(lambda requests, context: told(context) + b"".join(requests)),
    "Down": grpc.unary_stream_rpc_method_handler(down),
    "Both": grpc.stream_stream_rpc_method_handler(both),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "FailLate": grpc.unary_stream_rpc_method_handler(fail_late),
}


class Calls(grpc.GenericRpcHandler):
    def service(self, call):
        return KINDS.get(call.method.removeprefix("/harm.Harm/"))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        if self.path == "/events":
            return self.events()
        if self.path == "/poll":
            time.sleep(3)
        seen = json.dumps(sorted(shown(name.lower(), value) for name, value in self.headers.items()))
        self.answer(seen.ljust(1024).encode())

    def do_PUT(self):
        digest, size = hashlib.sha256(), 0
        while chunk := int(self.rfile.readline(), 16):
            size += chunk
            digest.update(self.rfile.read(chunk))
            self.rfile.readline()
        self.rfile.readline()
        self.answer(f"{size} bytes, {digest.hexdigest()}".encode())

    def events(self):
        self.send_response_only(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for _ in range(4):
            time.sleep(0.4)
            self.wfile.write(b"data: %f\n\n" % time.time())
        self.close_connection = True

    def answer(self, body):
        self.send_response_only(200)
        self.send_header("X-Twice", "a")
        self.send_header("X-Twice", "b")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, *_):
        pass


def serve():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Calls()])
    server.add_insecure_port("0.0.0.0:9000")
    server.start()
    ThreadingHTTPServer(("", 8080), Handler).serve_forever()


# The client.


def say(call, what, lines):
    for line in lines:
        print(f"{call}: {what} {line}")


def ask_grpc(address, gzip):
    options = [("grpc.default_authority", "harm.shop:9000"), ("grpc.enable_retries", 0)]
    channel = grpc.insecure_channel(f"{address}:9000", options)
    small, large = b"hello", b"tulle" * 200_000
    for kind in KINDS:
        many = kind in ("Up", "Both")
        dial = {("Unary", "Fail"): channel.unary_unary, ("Up",): channel.stream_unary,
                ("Down", "FailLate"): channel.unary_stream, ("Both",): channel.stream_stream}
        method = next(dial for kinds, dial in dial.items() if kind in kinds)(f"/harm.Harm/{kind}")
        for message in [b"", small, large]:
            name = f"{kind} {len(message)}{' gzip' if gzip else ''}"
            given = {"metadata": ASKED + ((("x-gzip", "1"),) if gzip else ()), "timeout": 30}
            if gzip:
                given["compression"] = grpc.Compression.Gzip
            request = iter([message] * 3) if many else message
            got = []
            try:
                if kind in ("Unary", "Fail", "Up"):
                    answer, call = method.with_call(request, **given)
                    got.append(answer)
                else:
                    call = method(request, **given)
                    got.extend(call)
            except grpc.RpcError as error:
                call = error
            if got:
                seen, _, got[0] = got[0].partition(b"\0")
                say(name, "server saw", seen.decode().split("\n"))
            say(name, "client got", [f"{len(part)} bytes, {hashlib.sha256(part).hexdigest()}" for part in got])
            say(name, "client got", [shown(*pair) for pair in sorted(call.initial_metadata())])
            say(name, "client got at the end", [shown(*pair) for pair in sorted(call.trailing_metadata())])
            say(name, "ended with", [call.code().name, repr(call.details())])


def head_of(text):
    """Its lines; HTTP/1 names have no case here: that it can be kept is tested elsewhere."""
    status, *fields = text.split("\r\n")
    return [status] + [shown(name.lower(), value.strip()) for name, _, value in (f.partition(":") for f in fields)]


def curl(address, path, *options):
    connect = f"harm.shop:8080:{address}:8080"
    argv = ["curl", "-sS", "-i", "-N", "-m", "120", "--connect-to", connect, *options, f"http://harm.shop:8080{path}"]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def ask_http(address, mib):
    for path in ["/", "/poll"]:
        head, _, body = curl(address, path).communicate()[0].decode().partition("\r\n\r\n")
        say(path, "client got", head_of(head))
        say(path, "server saw", json.loads(body))
    events = curl(address, "/events")
    came, late = 0, 0
    for line in events.stdout:
        if line.startswith(b"data: "):
            came += 1
            late += time.time() - float(line[6:]) > 0.3
        elif line.strip():
            say("/events", "client got", [line.decode().strip().lower()])
    say("/events", "came", [f"{came}, late {late}"])
    upload = curl(address, "/upload", "-T", "-", "-H", "Expect:")
    piece = ALL * 4096

    def write():
        for _ in range(mib):
            upload.stdin.write(piece)
        upload.stdin.close()

    writer = threading.Thread(target=write)
    writer.start()
    head, _, body = upload.stdout.read().decode().partition("\r\n\r\n")
    writer.join()
    say("/upload", "client got", head_of(head) + [body])


if sys.argv[1] == "serve":
    serve()
else:
    ask_grpc(sys.argv[2], False)
    ask_grpc(sys.argv[2], True)
    ask_http(sys.argv[2], int(sys.argv[3]))
