"""Sends NUMBER requests for PATH to `front`, several at once, and counts the answers. SHARE: every so many-th is not of the lane; 0: all
are."""
import collections, http.client, json, sys, threading

path, number, share = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
counted, lock = collections.Counter(), threading.Lock()


def ask(numbers):
    connection = http.client.HTTPConnection("front", timeout=20)
    for n in numbers:
        within = share == 0 or n % share != 0
        connection.request("GET", path, headers={"x-tulle-lane": "pr-1234"} if within else {})
        answer = connection.getresponse()
        said = answer.read().decode()
        with lock:
            counted["in" if within else "out", f"{answer.status} {said}"] += 1


threads = [threading.Thread(target=ask, args=(range(at, number, 4),)) for at in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps([[way, said, times] for (way, said), times in counted.items()]))
