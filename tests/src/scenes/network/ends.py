"""Both ends of connections. `answer NAME=URL…` listens; `ask URL…` asks all at once, and prints a line for each;
`ask` alone does so for each line of its input.

Who is called tells its name, the address that it sees, and where the connection was going before the kernel
redirected it, or `-`.

  tcp://HOST:PORT[#SOURCE]        tells at once
  open://HOST:PORT                to listen only: tells at once, and waits until the other leaves
  udp://HOST:PORT                 tells whoever sends something
  http://HOST:PORT[/PATH]         tells in a response, whose status comes first. To listen, [::] is every address, and
                                  [::0] every one of IPv6
  dns://ADDRESS:PORT              to listen only: knows *.example, and no other name
  dns://SERVER:PORT/NAME/TYPE     a question over UDP; dns+tcp: over TCP. Cluster DNS says that it has authority
                                  (`resolver`), the sidecar does not (`mesh`)
  names://NAME:0                  what the C library finds

`hold HOST PORT COUNT` opens connections and keeps them until its input ends. `keep HOST PORT` opens one, and prints
what it is told and how it ends.
"""
import os, signal, socket, struct, sys, threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import BaseRequestHandler, ThreadingTCPServer, ThreadingUDPServer

PATIENCE = 10  # seconds
TYPES = {"A": 1, "CNAME": 5, "AAAA": 28}
CODES = {0: "NOERROR", 2: "SERVFAIL", 3: "NXDOMAIN"}


def parse(url):
    scheme, rest = url.split("://")
    rest, _, source = rest.partition("#")
    place, _, path = rest.partition("/")
    host, port = place.rsplit(":", 1)
    return scheme, host.strip("[]"), int(port), path, source


# Who is called.


def told(name, sock, peer):
    return f"{name} {plain(peer[0])} {wanted(sock)}"


def plain(address):
    return address.removeprefix("::ffff:")


def wanted(sock):
    here = sock.getsockname()
    try:  # SO_ORIGINAL_DST of IPv6 and of IPv4
        if ":" in plain(here[0]):
            raw = sock.getsockopt(socket.IPPROTO_IPV6, 80, 28)
            ip = socket.inet_ntop(socket.AF_INET6, raw[8:24])
        else:
            raw = sock.getsockopt(socket.IPPROTO_IP, 80, 16)
            ip = socket.inet_ntop(socket.AF_INET, raw[4:8])
    except OSError:
        return "-"
    port = int.from_bytes(raw[2:4], "big")
    if (ip, port) == (plain(here[0]), here[1]):
        return "-"
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def listen(name, url):
    kind, host, port, _, _ = parse(url)

    class Tcp(BaseRequestHandler):
        def handle(self):
            self.request.sendall(told(name, self.request, self.client_address).encode())

    class Open(Tcp):
        def handle(self):
            super().handle()
            self.request.recv(1)

    class Udp(BaseRequestHandler):
        def handle(self):
            self.request[1].sendto(f"{name} {plain(self.client_address[0])} -".encode(), self.client_address)

    class Http(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self):
            body = told(name, self.connection, self.client_address).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_request(self, *_):
            pass

    class DnsUdp(BaseRequestHandler):
        def handle(self):
            self.request[1].sendto(known(self.request[0]), self.client_address)

    class DnsTcp(BaseRequestHandler):
        def handle(self):
            while asked := framed(self.request):
                self.request.sendall(frame(known(asked)))

    for server, handler in {
        "tcp": [(ThreadingTCPServer, Tcp)],
        "open": [(ThreadingTCPServer, Open)],
        "udp": [(ThreadingUDPServer, Udp)],
        "http": [(ThreadingHTTPServer, Http)],
        "dns": [(ThreadingUDPServer, DnsUdp), (ThreadingTCPServer, DnsTcp)],
    }[kind]:

        class Server(server):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
            allow_reuse_address = daemon_threads = True
            request_queue_size = 128

            def server_bind(self):
                if ":" in host:
                    self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
                super().server_bind()

        threading.Thread(target=Server((host, port), handler).serve_forever).start()


# Who calls.


def ask(url):
    kind, host, port, path, source = parse(url)
    try:
        if kind == "names":
            return ",".join(sorted({found[4][0] for found in socket.getaddrinfo(host, None)}))
        if kind == "http":
            connection = HTTPConnection(host, port, timeout=PATIENCE)
            connection.request("GET", f"/{path}")
            response = connection.getresponse()
            return f"{response.status} {response.read().decode().strip()}"
        if kind in ("udp", "dns"):
            with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(PATIENCE)
                sock.connect(socket.getaddrinfo(host, port, sock.family, socket.SOCK_DGRAM)[0][4])
                sock.send(question(path) if kind == "dns" else b"?")
                return answered(sock.recv(4096)) if kind == "dns" else sock.recv(4096).decode()
        with socket.create_connection((host, port), PATIENCE, (source, 0) if source else None) as sock:
            if kind == "dns+tcp":
                sock.sendall(frame(question(path)))
                return answered(framed(sock))
            return b"".join(iter(lambda: sock.recv(4096), b"")).decode()
    except Exception as error:
        return type(error).__name__


# DNS (RFC 1035).


def frame(message):
    return struct.pack("!H", len(message)) + message


def framed(sock):
    stream = sock.makefile("rb")
    return stream.read(int.from_bytes(stream.read(2), "big"))


def question(path):
    name, kind = path.split("/")
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return os.urandom(2) + struct.pack("!5H", 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, TYPES[kind], 1)


def read_name(message, at):
    labels, end = [], None
    while message[at]:
        if message[at] >= 0xC0:  # the rest stands elsewhere
            end = end or at + 2
            at = int.from_bytes(message[at : at + 2], "big") & 0x3FFF
        else:
            labels.append(message[at + 1 : at + 1 + message[at]].decode().lower())
            at += 1 + message[at]
    return ".".join(labels), end or at + 1


def known(asked):
    name, at = read_name(asked, 12)
    there = name.endswith(".example")
    answers = there and asked[at : at + 2] == b"\0\1"
    head = asked[:2] + struct.pack("!5H", 0x8580 if there else 0x8583, 1, answers, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + socket.inet_aton("192.0.2.7")
    return head + asked[12 : at + 4] + (record if answers else b"")


def answered(message):
    flags, _, count = struct.unpack("!3H", message[2:8])
    at, found = read_name(message, 12)[1] + 4, []
    for _ in range(count):
        at = read_name(message, at)[1]
        kind, _, _, length = struct.unpack("!HHIH", message[at : at + 10])
        at += 10
        if kind == TYPES["CNAME"]:
            found.append(read_name(message, at)[0])
        else:
            family = socket.AF_INET if kind == TYPES["A"] else socket.AF_INET6
            found.append(socket.inet_ntop(family, message[at : at + length]))
        at += length
    who = "resolver" if flags & 0x0400 else "mesh"
    return f"{CODES[flags & 15]} {who} {','.join(sorted(found))}".strip()


verb, words = sys.argv[1], sys.argv[2:]
if verb == "answer":
    # The first process of a container ignores SIGTERM unless it says otherwise.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    for word in words:
        listen(*word.split("=", 1))
    print("listening", flush=True)
elif verb == "ask":
    for urls in [words] if words else map(str.split, sys.stdin):
        with ThreadPoolExecutor(len(urls)) as pool:
            print(*pool.map(ask, urls), sep="\n", flush=True)
elif verb == "hold":
    held = [socket.create_connection((words[0], int(words[1])), PATIENCE) for _ in range(int(words[2]))]
    print("held", flush=True)
    sys.stdin.read()
elif verb == "keep":
    kept = socket.create_connection((words[0], int(words[1])), PATIENCE)
    kept.settimeout(None)
    try:
        while got := kept.recv(4096):
            print(got.decode(), flush=True)
        print("ended", flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
