"""Calls `cart` until it is interrupted, and says who answered what: load.py POSTS STREAMS HELD.

POSTS: so many a second, each on a connection of its own, so that nobody tries one twice. STREAMS: so many gRPC streams and as many
TCP conversations at a time, of half a second to three. HELD: so many of each, and as many streams of HTTP, that last as long as they may;
which ended tells what was open to whom from when to when.
"""
import asyncio, json, random, signal, socket, sys, time

import grpc.aio

rate, streams, held = map(int, sys.argv[1:])
NAME = "cart.bench.svc.cluster.local"
address = socket.gethostbyname(NAME)
posts, failures, done, lasting = {}, [], {"grpc": 0, "tcp": 0}, []
over = asyncio.Event()


async def post():
    sent, writer = time.time(), None
    try:
        reader, writer = await asyncio.open_connection(address, 80)
        writer.write(b"POST / HTTP/1.1\r\nhost: cart\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx")
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode()
    except (OSError, EOFError, TimeoutError) as error:
        return failures.append(f"POST: {error!r}")
    finally:
        if writer:
            writer.close()
    status, version = head.split()[1], field(head)
    if not version or status not in ("200", "500"):
        return failures.append(f"POST: {head!r}")
    of = posts.setdefault(version, {"all": 0, "bad": 0, "first_bad": None, "first_sent": sent, "last_sent": sent})
    of["all"] += 1
    of["last_sent"] = max(of["last_sent"], sent)
    if status == "500":
        of["bad"] += 1
        of["first_bad"] = of["first_bad"] or time.time()


def field(head):
    return next((line.split(": ")[1] for line in head.split("\r\n") if line.startswith("x-version: ")), None)


async def call(channel):
    times = random.randint(3, 15)
    try:
        got = [message async for message in channel.unary_stream("/bench.Cart/Watch")(b"%d" % times)]
        if len(got) == times:
            done["grpc"] += 1
        else:
            failures.append(f"gRPC: {len(got)} of {times} messages")
    except grpc.RpcError as error:
        failures.append(f"gRPC: {error.code()}: {error.details()}")


async def talk():
    writer = None
    try:
        reader, writer = await asyncio.open_connection(address, 7000)
        for _ in range(random.randint(3, 15)):
            writer.write(b"say\n")
            if not await asyncio.wait_for(reader.readline(), 10):
                return failures.append("TCP: ended")
            await asyncio.sleep(0.2)
        done["tcp"] += 1
    except (OSError, TimeoutError) as error:
        failures.append(f"TCP: {error!r}")
    finally:
        if writer:
            writer.close()


async def watch(channel):
    async for message in channel.unary_stream("/bench.Cart/Watch")(b"0"):
        yield message.decode()


async def listen(port, request, version):
    reader, writer = await asyncio.open_connection(address, port)
    try:
        writer.write(request)
        yield version((await reader.readuntil(b"\r\n\r\n" if port == 80 else b"\n")).decode())
        while True:
            if port != 80:
                await asyncio.sleep(0.2)
                writer.write(request)
            line = await reader.readline()
            if line in (b"", b"0\r\n"):
                return
            yield line
    finally:
        writer.close()


async def hold(kind, opened):
    """One after the other."""
    while not over.is_set():
        of = {"kind": kind, "version": None, "opened": time.time(), "ended": None, "why": ""}
        try:
            async for said in opened():
                if of["version"] is None:
                    of["version"] = said
                    lasting.append(of)
        except (OSError, EOFError) as error:
            of["why"] = repr(error)
        except grpc.RpcError as error:
            of["why"] = f"{error.code()}: {error.details()}"
        of["ended"] = time.time()
        await asyncio.sleep(0.1)


async def again(work):
    while not over.is_set():
        await work()


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, over.set)
    channel = grpc.aio.insecure_channel(f"{NAME}:9090", [("grpc.enable_retries", 0)])
    tasks, holders = set(), set()
    for _ in range(streams):
        tasks |= {asyncio.create_task(again(lambda: call(channel))), asyncio.create_task(again(talk))}
    for _ in range(held):
        for kind, opened in (
            ("grpc", lambda: watch(channel)),
            ("http", lambda: listen(80, b"GET / HTTP/1.1\r\nhost: cart\r\n\r\n", field)),
            ("tcp", lambda: listen(7000, b"say\n", str.strip)),
        ):
            holders.add(asyncio.create_task(hold(kind, opened)))
    due = time.monotonic()
    while not over.is_set():
        tasks.add(task := asyncio.create_task(post()))
        task.add_done_callback(tasks.discard)
        due += 1 / rate
        await asyncio.sleep(max(due - time.monotonic(), 0))
    [task.cancel() for task in holders]
    # What has begun counts as well.
    await asyncio.gather(*tasks)
    print(json.dumps({"posts": posts, "failures": failures, "done": done, "lasting": lasting}))


asyncio.run(main())
