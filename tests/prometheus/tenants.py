"""tenants HOST NUMBER: sends so many requests, each for a tenant that nobody has named before."""
import http.client, secrets, sys, threading

CALLERS = 8
host, number = sys.argv[1], int(sys.argv[2])
failed = []


def send(share):
    connection = http.client.HTTPConnection(host, timeout=30)
    for _ in range(share):
        try:
            connection.request("GET", "/", headers={"x-tenant": f"tenant-{secrets.token_hex(8)}"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                failed.append(answer.status)
        except (OSError, http.client.HTTPException) as error:
            failed.append(repr(error))
            connection.close()


shares = [number // CALLERS + (caller < number % CALLERS) for caller in range(CALLERS)]
threads = [threading.Thread(target=send, args=[share]) for share in shares]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(failed), failed[:5])
