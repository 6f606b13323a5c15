"""What is measured. Each shape gives one figure for each of its contenders, of which the first is ours."""

import contextlib
import http.client
import os
import re
import shutil
import ssl
import statistics
import subprocess
import sys
import time

from measured import CPUS, TARGET, Sessions
from . import machine

KIB, MIB = 1 << 10, 1 << 20
OURS = "SPDY/3.1"

# What a browser sends besides.
FIELDS = [
    "accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-encoding: gzip,deflate,sdch",
    "accept-language: en-US,en;q=0.8",
    "cache-control: max-age=0",
    "referer: http://localhost/",
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/38.0.2125.104 Safari/537.36",
]
# The flags of `spdy load` for each protocol.
PROTOCOLS = {"spdy": ["--version", "3.1"], "h2": ["--h2"]}


class Shape:
    """What the figures of some contenders have in common."""

    # Whether a smaller figure is better.
    less = True
    # Whether congestion control makes a difference.
    paced = False
    # What the ratio to the reference means.
    says = "takes {} × the CPU time of {}"

    def __init__(self, title, contenders, reference=None, paced=False):
        self.title, self.contenders, self.paced = title, contenders, paced
        self.reference = reference or next((name for name in contenders if name != OURS), None)

    def measure(self, bench, contender):
        """One figure."""
        raise NotImplementedError


class Requests(Shape):
    """The CPU time of the server for a request, or the bytes that it moves in a second of CPU time."""

    def __init__(self, title, path, requests, contenders, sessions=1, streams=1, body=0, size=0, raw=(48, 150), **more):
        super().__init__(title, contenders, **more)
        self.path, self.requests, self.sessions, self.streams = path, requests, sessions, streams
        self.body, self.size, self.raw = body, size, raw
        self.less = not size
        self.says = "moves {} × the bytes per CPU-second of {}" if size else self.says
        self.unit = "GB per CPU-second" if size else "CPU µs per request"

    def measure(self, bench, contender):
        name, protocol = self.contenders[contender]
        server = bench.server(name)
        # What is written in Go takes long enough with fewer.
        requests = max(self.requests // 20, 1) if protocol == "spdystream" else self.requests
        if protocol in PROTOCOLS:
            seconds = self.loaded(bench, server, protocol, requests)
        elif protocol.startswith("raw"):
            seconds = self.raw_load(bench, server, protocol, requests)
        else:
            seconds = self.steps(server, protocol, requests)
        return requests * self.size / seconds / 1e9 if self.size else seconds / requests * 1e6

    def loaded(self, bench, server, protocol, requests):
        flags = ["-c", self.sessions, "-m", self.streams, "-n", requests, *(["--body", self.body] if self.body else [])]
        return spent(server, bench, load(flags, protocol, server.url + self.path))

    def raw_load(self, bench, server, protocol, requests):
        words = [protocol, server.address, self.sessions, self.streams, requests, *self.raw]
        return spent(server, bench, [TARGET / "bench-client", "raw", *words])

    def steps(self, server, protocol, requests):
        """A session without windows, which `spdy load` does not have."""
        with Sessions(server, self.sessions, self.streams, protocol=protocol) as client:
            before = server.cpu()
            client.do(self.path, requests, method="POST" if self.body else "GET", body=self.body)
            return server.cpu() - before


def load(flags, protocol, url):
    """The command of `spdy load`."""
    fields = [word for field in FIELDS for word in ["--header", field]]
    return [TARGET / "spdy", "load", *flags, *PROTOCOLS[protocol], "--insecure", *fields, url]


def spent(server, bench, command):
    """CPU-seconds of the server while a client runs on the last CPU."""
    before = server.cpu()
    run(bench, command)
    return server.cpu() - before


def run(bench, command):
    """Runs a client on the last CPU, and returns what it prints."""
    pin = lambda: os.sched_setaffinity(0, {CPUS[-1]})
    words = list(map(str, command))
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, preexec_fn=pin, env=bench.environment)
    return done.stdout


class Client(Shape):
    """The CPU time of a load generator."""

    unit = "CPU µs of the client per request"
    requests = 50_000

    def measure(self, bench, contender):
        name, protocol = self.contenders[contender]
        url = bench.server(name).url + "/hello"
        if protocol == "h2load":
            fields = [word for field in FIELDS for word in ["-H", field]]
            command = ["h2load", "-t1", "-c10", "-m10", f"-n{self.requests}", *fields, url]
        else:
            command = load(["-c", 10, "-m", 10, "-n", self.requests], protocol, url)
        pin = lambda: os.sched_setaffinity(0, {CPUS[-1]})
        client = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, preexec_fn=pin)
        _, status, used = os.wait4(client.pid, 0)
        client.returncode = os.waitstatus_to_exitcode(status)
        if client.returncode:
            raise subprocess.CalledProcessError(client.returncode, command)
        return (used.ru_utime + used.ru_stime) / self.requests * 1e6


class Handshakes(Shape):
    """The CPU time of the server for a connection: TCP, the handshake, the first bytes and the end."""

    unit = "CPU µs per connection"

    def __init__(self, title, how, count, contenders):
        super().__init__(title, contenders)
        self.how, self.count = how, count

    def measure(self, bench, contender):
        name, protocol = self.contenders[contender]
        server = bench.server(name)
        command = [TARGET / "bench-client", "handshakes", protocol, server.address, self.count, self.how]
        return spent(server, bench, command) / self.count * 1e6


class Beside(Shape):
    """The latency of a small response beside a download that is read at 20 MB/s."""

    unit = "ms, 99th percentile"
    says = "takes {} × the time of {}"

    def measure(self, bench, contender):
        name, protocol = self.contenders[contender]
        server = bench.server(name)
        words = ["beside", protocol, server.address, f"/bytes/{256 * MIB}", 20_000_000, 6]
        return float(re.search(r"p99 ([\d.]+)", run(bench, [TARGET / "bench-client", *words]))[1])


class Crowd(contextlib.ExitStack):
    """Sessions of one server, or of several if one may not have enough descriptors for all."""

    def __init__(self, bench, contender):
        super().__init__()
        self.bench, (self.name, self.protocol) = bench, contender
        self.servers, self.clients = [], []

    def start(self, count):
        """Starts servers for this many sessions, each with one session that has had its first request."""
        most = machine.limit_of_descriptors() - 200
        for _ in range(-(-count // most)):
            self.servers.append(self.enter_context(self.bench.start(self.name)))
        for server in self.servers:
            self.open(server, 1).do("/hello", 1)

    def fill(self, count):
        """Opens this many sessions, and has a request in each."""
        for index, server in enumerate(self.servers):
            share = (count + index) // len(self.servers)
            self.clients.append((self.open(server, share), share / count))
        self.do(count)

    def open(self, server, sessions):
        client = Sessions(server, sessions, protocol=self.protocol, env=self.bench.environment)
        return self.enter_context(client)

    def do(self, requests):
        for client, share in self.clients:
            client.do("/hello", round(requests * share))

    def cpu(self):
        return sum(server.cpu() for server in self.servers)

    def memory(self):
        return sum(server.memory() for server in self.servers)


class Idle(Shape):
    """The memory of connections that are at rest after one request."""

    unit = "KiB per connection"
    says = "takes {} × the memory of {}"

    def __init__(self, title, count, contenders, **more):
        super().__init__(title, contenders, **more)
        self.count = count

    def measure(self, bench, contender):
        with Crowd(bench, self.contenders[contender]) as crowd:
            crowd.start(self.count)
            base = self.memory(crowd)
            crowd.fill(self.count)
            time.sleep(1)
            return (self.memory(crowd) - base) / self.count

    def memory(self, crowd):
        return crowd.memory()


class Calls(Shape):
    """The system calls of a server whose connections are at rest."""

    unit = "system calls per second"
    count, seconds = 1_000, 10

    def measure(self, bench, contender):
        name, protocol = self.contenders[contender]
        if not shutil.which("strace"):
            sys.exit("strace is missing, which counts the system calls")
        with bench.start(name) as server, Sessions(server, self.count, protocol=protocol) as client:
            client.do("/hello", self.count)
            time.sleep(2)
            words = ["strace", "-qq", "-c", "-f", "-p", str(server.process.pid)]
            counted = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
            time.sleep(self.seconds)
            counted.send_signal(2)
            table = counted.communicate()[1]
        total = re.search(r"^100.00\s+[\d.]+\s+\d+\s+(\d+).*total$", table, re.MULTILINE)
        return int(total[1]) / self.seconds if total else 0.0


class Start(Shape):
    """The time from the start of a server to the last byte of its first response, over TLS."""

    unit = "ms"

    def measure(self, bench, contender):
        name, _ = self.contenders[contender]
        anyone = ssl._create_unverified_context()
        begun = time.monotonic()
        with bench.start(name) as server:
            client = http.client.HTTPSConnection(server.address, context=anyone)
            client.request("GET", "/hello")
            client.getresponse().read()
            return (time.monotonic() - begun) * 1e3


class Scrape(Shape):
    """The time of a scrape of the metrics while many sessions are open."""

    unit = "ms"
    count, scrapes = 10_000, 20

    def measure(self, bench, contender):
        name, protocol = self.contenders[contender]
        with bench.start(name) as server, Sessions(server, self.count, protocol=protocol) as client:
            client.do("/hello", self.count)
            pages = http.client.HTTPConnection(server.until(r"http://([\d.]+:\d+)/metrics")[1])
            times = []
            for _ in range(self.scrapes):
                begun = time.monotonic()
                pages.request("GET", "/metrics")
                pages.getresponse().read()
                times.append(time.monotonic() - begun)
            return statistics.median(times) * 1e3


class Kernel(Idle):
    """The memory of the kernel for a connection: half of what both ends of it take."""

    def memory(self, _):
        return machine.kernel_memory() / 2


class Growth(Shape):
    """The cost of a request as sessions become more."""

    unit = "CPU µs per request"
    axis = "sessions, one request at a time in each"
    places = [10, 100, 1_000, 10_000, 50_000]
    requests = 20_000

    def grow(self, bench, count, rounds):
        """Yields the figures of each contender, in turns."""
        requests = max(self.requests, count)
        with contextlib.ExitStack() as stack:
            crowds = {}
            for contender, server in self.contenders.items():
                crowds[contender] = crowd = stack.enter_context(Crowd(bench, server))
                crowd.start(count)
                crowd.fill(count)
            for _ in range(rounds):
                for contender, crowd in crowds.items():
                    before = crowd.cpu()
                    crowd.do(requests)
                    yield contender, (crowd.cpu() - before) / requests * 1e6


PLAIN = {OURS: ("spdy", "spdy"), "axum h2c": ("axum h2c", "h2"), "nginx h2c": ("nginx h2c", "h2")}
GO = {"Go spdystream": ("go", "spdystream")}
RAW = {"raw TCP": ("raw", "raw")}
TLS = {OURS: ("spdy tls", "spdy"), "nginx h2": ("nginx h2", "h2"), "HTTP/2 of spdy-server": ("spdy tls", "h2")}
RAW_TLS = {"raw TLS": ("raw tls", "raws")}
PUSHED = {OURS: ("spdy", "spdy"), "axum h2c": ("axum h2c", "h2"), **GO, **RAW}
SMALL = {**PLAIN, **GO, **RAW}
ECHO = (1 << 64) - 1
FILES = {
    "HTTP/2 of spdy-server": ("spdy files tls", "h2"),
    "nginx h2": ("nginx h2", "h2"),
    "nginx h2, files not kept": ("nginx h2, files not kept", "h2"),
}


def moved(title, path, requests, contenders, size, **more):
    return Requests(title, path, requests, contenders, size=size, paced=True, **more)


SHAPES = {
    "small-10x10": Requests("Small request, 10 × 10 streams", "/hello", 50_000, SMALL, 10, 10),
    "small-1x100": Requests("Small request, 1 × 100 streams", "/hello", 50_000, SMALL, 1, 100),
    "small-1x1": Requests("Small request that comes alone", "/hello", 10_000, SMALL),
    "download": moved("Download of 64 MiB", f"/bytes/{64 * MIB}", 8, SMALL, 64 * MIB, raw=(0, 64 * MIB)),
    "download-memory": moved(
        "Download of 256 MiB of memory",
        f"/memory/{256 * MIB}",
        2,
        {OURS: ("axum spdy", "spdy"), "axum h2c": ("axum h2c", "h2")},
        256 * MIB,
    ),
    "upload": moved("Upload of 16 MiB", "/sink", 16, PUSHED, 16 * MIB, body=16 * MIB, raw=(16 * MIB, 1)),
    "echo": moved("Echo of 64 MiB", "/echo", 4, PUSHED, 64 * MIB, body=64 * MIB, raw=(64 * MIB, ECHO)),
    "file-1m": moved(
        "Files of 1 MiB", "/1m", 400, {OURS: ("spdy files", "spdy"), "nginx h2c": ("nginx h2c", "h2")}, MIB
    ),
    "file-256m": moved(
        "Files of 256 MiB", "/256m", 2, {OURS: ("spdy files", "spdy"), "nginx h2c": ("nginx h2c", "h2")}, 256 * MIB
    ),
    "file-1k-tls": Requests("Files of 1 KiB over TLS, 10 × 10 streams", "/1k", 30_000, FILES, 10, 10, reference="nginx h2"),
    "file-1m-tls": moved("Files of 1 MiB over TLS", "/1m", 400, FILES, MIB, reference="nginx h2"),
    "beside": Beside("Small response beside 20 MB/s", PLAIN, paced=True),
    "tls-10x10": Requests(
        "Small request over TLS, 10 × 10 streams", "/hello", 30_000, {**TLS, **RAW_TLS}, 10, 10
    ),
    "tls-download": moved(
        "Download of 64 MiB over TLS",
        f"/bytes/{64 * MIB}",
        4,
        {**TLS, **RAW_TLS},
        64 * MIB,
        raw=(0, 64 * MIB),
    ),
    "handshake-full": Handshakes(
        "Connection with a full handshake",
        "full",
        500,
        {OURS: ("spdy tls", "spdys"), "nginx h2": ("nginx h2", "h2s"), "raw TLS": ("raw tls", "raws")},
    ),
    "handshake-resumed": Handshakes(
        "Connection that resumes a session",
        "resumed",
        500,
        {OURS: ("spdy tls", "spdys"), "nginx h2": ("nginx h2", "h2s"), "raw TLS": ("raw tls", "raws")},
    ),
    "idle": Idle("Connection at rest", 1_000, {**PLAIN, **GO}, reference="nginx h2c"),
    "idle-50k": Idle("Connection at rest, one of 50,000", 50_000, PLAIN, reference="nginx h2c"),
    "idle-tls": Idle("Connection at rest over TLS", 1_000, {OURS: ("spdy tls", "spdys"), "nginx h2": ("nginx h2", "h2s")}),
    "calls": Calls("1,000 connections at rest", {OURS: ("spdy", "spdy")}),
    "start": Start("Start to the first response", {OURS: ("spdy tls", None)}),
    "scrape": Scrape("Scrape of /metrics with 10,000 sessions", {OURS: ("spdy metrics", "spdy")}),
    "kernel": Kernel("Connection at rest, in the kernel", 5_000, {OURS: ("spdy", "spdy")}),
    "client": Client(
        "Load generator, 10 × 10 streams",
        {
            "spdy load": ("spdy", "spdy"),
            "spdy load --h2": ("axum h2c", "h2"),
            "h2load": ("axum h2c", "h2load"),
        },
        reference="h2load",
    ),
    "sessions": Growth("Small request, as sessions become more", PLAIN),
}
