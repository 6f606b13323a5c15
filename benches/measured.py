"""The server as a process of which CPU and memory are measured, and other programs beside it."""

import os
import pathlib
import re
import resource
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
CPUS = sorted(os.sched_getaffinity(0))
# As many as the largest number of sessions needs, if the user may.
DESCRIPTORS = 60_000


class Program:
    """A child process on one CPU, which answers on its standard output."""

    def __init__(self, cpu, *command, env=None):
        pin = lambda: os.sched_setaffinity(0, {cpu})
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, preexec_fn=pin, env=env)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def until(self, pattern):
        """The first line of its output that matches."""
        for line in self.process.stdout:
            if match := re.search(pattern, line):
                return match
        sys.exit(f"{self.process.args[0]} ended with status {self.process.wait()}")


class Measured(Program):
    """A server on the first CPU."""

    def __init__(self, *command):
        super().__init__(CPUS[0], *command)
        scheme, self.address = self.until(r"(https?)://([\d.]+:\d+)").groups()
        self.url = f"{scheme}://{self.address}"
        self.proc = pathlib.Path(f"/proc/{self.process.pid}")

    def cpu(self):
        """Seconds that its threads have run."""
        threads = (self.proc / "task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    def memory(self, name="VmRSS"):
        """Resident memory in KiB; VmHWM for its peak."""
        return int(re.search(rf"{name}:\s+(\d+)", (self.proc / "status").read_text())[1])


class Server(Measured):
    """spdy-server with its built-in site."""

    def __init__(self, threads=1, tls=False):
        listen = "--listen" if tls else "--plain"
        super().__init__(TARGET / "spdy-server", listen, "127.0.0.1:0", "--threads", str(threads))


class Sessions(Program):
    """A client on the last CPU, which holds its sessions open."""

    def __init__(self, server, sessions=1, streams=1, protocol="spdy", env=None):
        words = ["steps", protocol, server.address, str(sessions), str(streams)]
        super().__init__(CPUS[-1], TARGET / "bench-client", *words, env=env)
        self.until("^open")

    def do(self, path, requests, method="GET", body=0, fields=0):
        print(method, path, requests, body, fields, file=self.process.stdin, flush=True)
        self.until("^done")


def prepare():
    """Builds what is measured, and allows enough file descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for package in ["spdy-server", "spdy-cli", "spdy-benches"]:
        build = ["cargo", "build", "--locked", "--quiet", "--release", "-p", package, "--bins"]
        subprocess.run(build, cwd=ROOT, check=True)


def table(rows):
    """Rows in Markdown, of which the first is the head."""
    head, *rows = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---:"] * len(head), *rows])
