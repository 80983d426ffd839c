"""strange HOST NUMBER: sends so many requests of which each has another path, host, user agent, and whatever method and status."""
import http.client, random, sys, threading

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "BREW", "PROPFIND"]
CALLERS = 8
host, number = sys.argv[1], int(sys.argv[2])
failed = []


def send(caller):
    draw = random.Random(caller)
    connection = http.client.HTTPConnection(host, timeout=30)
    for _ in range(number // CALLERS):
        method, status, word = draw.choice(METHODS), draw.randint(200, 599), f"strange{draw.getrandbits(60):x}"
        try:
            connection.putrequest(method, f"/{word}?status={status}", skip_host=True, skip_accept_encoding=True)
            for name, value in [("host", f"{word}.example"), ("user-agent", word), ("x-request-id", word), ("content-length", "0")]:
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            answer.read()
            if answer.status != status:
                failed.append(f"{method} {status}: {answer.status}")
        except (OSError, http.client.HTTPException) as error:
            failed.append(f"{method} {status}: {error!r}")
            connection.close()


threads = [threading.Thread(target=send, args=[caller]) for caller in range(CALLERS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(failed), failed[:5])
