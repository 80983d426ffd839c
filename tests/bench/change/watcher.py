"""watcher.py URL COUNT: asks without a pause; prints the time of each first answer that differs from the one before."""
import http.client, sys, time
from urllib.parse import urlsplit

url, count = urlsplit(sys.argv[1]), int(sys.argv[2])
connection, last, deadline = http.client.HTTPConnection(url.netloc, timeout=10), None, time.time() + 120
while count and time.time() < deadline:
    connection.request("GET", url.path)
    body = connection.getresponse().read()
    if last is not None and body != last:
        print(time.time(), flush=True)
        count -= 1
    last = body
