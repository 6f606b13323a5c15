#!/usr/bin/env python3
"""Replaces servers under load, in each of the ways of docs/deploy.md, and counts what is lost.

    tests/interop/deploy/restart.py [--requests N] WAY...

WAY is haproxy, nginx, reuse-port or activation; all of them by default. The programs are
target/debug/spdy-server and target/debug/spdy, or SPDY_SERVER and SPDY_CLIENT.

While requests of SPDY/3.1, HTTP/2 and HTTP/1.1 and slow downloads go on, each server is asked to
stop, and another one takes its place. Every request must have its response, and every download its
length.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug"
SERVER = os.environ.get("SPDY_SERVER", str(TARGET / "spdy-server"))
CLIENT = os.environ.get("SPDY_CLIENT", str(TARGET / "spdy"))
CONF = ROOT / "deploy"
# Long enough for any machine. What takes this long has failed.
LONG = 120
PROTOCOLS = {"spdy/3.1": ["--version", "3.1"], "h2": ["--http2"], "http/1.1": ["--http1"]}
DOWNLOAD = 6 << 20
# With socket activation, connections wait while the old server drains.
PATIENT = ["-k", "--connect-timeout", "60"]


def free_ports(number):
    """Ports that nobody listens on. They stay free in all likelihood until a server takes them."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(what, is_so):
    end = time.monotonic() + LONG
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"FAIL not in {LONG} s: {what}")
        time.sleep(0.02)


class Server:
    """A running server with /readyz on a port of its own."""

    def __init__(self, metrics, arguments, listener=None):
        self.metrics = metrics
        command = [SERVER, "--metrics", f"127.0.0.1:{metrics}", *arguments]
        kwargs = {}
        if listener is not None:
            # As systemd starts a service with a socket: the first descriptor is 3.
            shell = 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=tls; exec "$@"'
            fd = listener.fileno()
            command = ["bash", "-c", f"exec 3<&{fd}; {shell}", "server", *command, "--systemd"]
            kwargs["pass_fds"] = [fd]
        self.log = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=self.log, **kwargs
        )
        until("the server is ready", self.is_ready)

    def is_ready(self):
        if self.process.poll() is not None:
            raise SystemExit(f"FAIL a server ended at its start: {self.said()}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/readyz", timeout=LONG) as page:
                return page.status == 200
        except (urllib.error.URLError, ConnectionError):
            return False

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        self.process.terminate()

    def wait(self):
        """Waits for the end, and returns how many connections did not finish."""
        code = self.process.wait(LONG)
        said = self.said()
        if code != 0:
            raise SystemExit(f"FAIL a server ended with {code}: {said}")
        cut = re.search(r"(\d+) connections did not finish", said)
        return int(cut[1]) if cut else 0


class Load:
    """Requests of one protocol, as many as asked for."""

    def __init__(self, protocol, url, requests, rate):
        self.protocol = protocol
        self.requests = requests
        sessions = ["-c", "8"] if protocol == "http/1.1" else ["-c", "4", "-m", "4"]
        command = [CLIENT, "load", "--json", *PATIENT, *PROTOCOLS[protocol], *sessions]
        command += ["-n", str(requests), "--rate", str(rate), url]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def is_over(self):
        return self.process.poll() is not None

    def lost(self):
        """Returns how many requests had no good response, and why."""
        report = json.loads(self.process.communicate(timeout=LONG)[0])
        if "statuses" not in report:
            return self.requests, report, {}
        good = report["statuses"]["2xx"]
        return self.requests - good, report["errors_by_reason"], report["statuses"]


class Downloads(threading.Thread):
    """One slow download of a protocol after the other."""

    def __init__(self, protocol, url):
        super().__init__()
        self.protocol = protocol
        self.command = [CLIENT, "get", "-s", "-S", *PATIENT, *PROTOCOLS[protocol], url]
        self.done = 0
        self.cut = []
        self.enough = False
        self.start()

    def run(self):
        while not self.enough:
            process = subprocess.Popen(
                self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False
            )
            length = 0
            while piece := process.stdout.read(128 << 10):
                length += len(piece)
                time.sleep(0.05)
            error = process.stderr.read().decode()
            if process.wait(LONG) == 0 and length == DOWNLOAD:
                self.done += 1
            else:
                self.cut.append(f"{length} bytes, exit {process.returncode}: {error.strip()}")


def restart_under_load(way, port, restart, requests):
    """Calls `restart` again and again while there is load, and tells what was lost."""
    url = f"https://127.0.0.1:{port}"
    # Slowly, so that several restarts fall into the load.
    rate = max(requests // 25, 1)
    loads = [Load(protocol, f"{url}/hello", requests, rate) for protocol in PROTOCOLS]
    downloads = [Downloads(protocol, f"{url}/bytes/{DOWNLOAD}") for protocol in PROTOCOLS]
    restarts = unfinished = 0
    while not all(load.is_over() for load in loads):
        unfinished += restart()
        restarts += 1
        time.sleep(1)
    failed = restarts < 2
    for thread in downloads:
        thread.enough = True
        thread.join()
        failed |= bool(thread.cut) or thread.done < 3
        print(f"{way}: {thread.protocol}: {thread.done} downloads, cut: {thread.cut or 'none'}")
    for load in loads:
        lost, reasons, statuses = load.lost()
        failed |= lost > 0
        print(f"{way}: {load.protocol}: {lost} of {load.requests} lost {reasons or ''}")
        if lost:
            print(statuses)
    failed |= unfinished > 0
    print(f"{way}: {restarts} restarts, {unfinished} connections did not finish")
    print(f"{'FAIL' if failed else 'PASS'} {way}", flush=True)
    return not failed


class Three:
    """Three servers behind a balancer; the next one is replaced each time."""

    def __init__(self, settle, *arguments):
        self.arguments = arguments
        ports = free_ports(6)
        self.addresses = list(zip(ports[:3], ports[3:], strict=True))
        self.servers = [self.start(number) for number in range(3)]
        self.next = 0
        self.settle = settle

    def start(self, number):
        port, metrics = self.addresses[number]
        listen = ["--listen", f"127.0.0.1:{port}", "--proxy-protocol"]
        return Server(metrics, [*listen, *self.arguments])

    def restart(self):
        number, self.next = self.next, (self.next + 1) % 3
        self.servers[number].stop()
        cut = self.servers[number].wait()
        self.servers[number] = self.start(number)
        # Until the balancer knows.
        time.sleep(self.settle)
        return cut

    def stop(self):
        for server in self.servers:
            server.stop()
        for server in self.servers:
            server.wait()


def behind(way, command, environment, three, port, requests):
    """Runs a balancer in front of three servers."""
    balancer = subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until("the balancer listens", lambda: is_open(port))
        return restart_under_load(way, port, three.restart, requests)
    finally:
        balancer.terminate()
        balancer.wait(LONG)
        three.stop()


def is_open(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def haproxy(requests):
    three = Three(2, "--drain-delay", "2")
    (front,) = free_ports(1)
    environment = {"SPDY_FRONT": f"127.0.0.1:{front}"}
    for name, (port, metrics) in zip("ABC", three.addresses, strict=True):
        environment[f"SPDY_{name}"] = f"127.0.0.1:{port}"
        environment[f"SPDY_HOST_{name}"] = "127.0.0.1"
        environment[f"SPDY_METRICS_{name}"] = str(metrics)
    command = ["haproxy", "-f", str(CONF / "haproxy/haproxy.cfg")]
    return behind("haproxy", command, environment, three, front, requests)


def nginx(requests):
    three = Three(2)
    (front,) = free_ports(1)
    stream = (CONF / "nginx/stream.conf").read_text().replace("listen 443", f"listen 127.0.0.1:{front}")
    for number, (port, _) in enumerate(three.addresses, 1):
        stream = stream.replace(f"10.0.0.{number}:8443", f"127.0.0.1:{port}")
    with tempfile.TemporaryDirectory() as directory:
        main = Path(directory) / "nginx.conf"
        module = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
        main.write_text(f"{module}\npid {directory}/pid;\nevents {{}}\n{stream}")
        command = ["nginx", "-e", f"{directory}/log", "-p", directory, "-c", str(main)]
        command += ["-g", "daemon off;"]
        return behind("nginx", command, {}, three, front, requests)


def reuse_port(requests):
    """The new server listens before the old one stops."""
    port, *metrics = free_ports(3)
    number = 0

    def start():
        nonlocal number
        number += 1
        return Server(metrics[number % 2], ["--listen", f"127.0.0.1:{port}", "--reuse-port"])

    server = start()

    def restart():
        nonlocal server
        old, server = server, start()
        old.stop()
        return old.wait()

    try:
        return restart_under_load("reuse-port", port, restart, requests)
    finally:
        server.stop()
        server.wait()


def activation(requests):
    """A manager holds the socket, and starts the next server when the last one has ended."""
    port, metrics = free_ports(2)
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listener:
        server = Server(metrics, [], listener)

        def restart():
            nonlocal server
            server.stop()
            cut = server.wait()
            server = Server(metrics, [], listener)
            return cut

        try:
            return restart_under_load("activation", port, restart, requests)
        finally:
            server.stop()
            server.wait()


WAYS = {"haproxy": haproxy, "nginx": nginx, "reuse-port": reuse_port, "activation": activation}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--requests", type=int, default=10_000, help="requests of each protocol")
    parser.add_argument("ways", nargs="*", choices=[*WAYS, []], default=[])
    arguments = parser.parse_args()
    passed = [WAYS[way](arguments.requests) for way in arguments.ways or WAYS]
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
