"""The servers that are measured beside each other, each with one thread on the first CPU."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

from measured import CPUS, ROOT, TARGET, Measured, Program

MIB = 1 << 20
# The lengths of the files in the folder that is served.
FILES = {"1k": 1 << 10, "bytes/67108864": 64 * MIB, "bytes/268435456": 256 * MIB, "1m": MIB, "256m": 256 * MIB}
GO_FOLDER = "/usr/share/gocode/src/github.com/moby/spdystream"


class Bench:
    """A temporary folder with certificates and files, and the servers that run at the moment."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.running = {}
        subprocess.run([TARGET / "bench-server", "certificate", folder], check=True)
        self.certificate, self.key = self.folder / "cert.pem", self.folder / "key.pem"
        self.environment = {**os.environ, "BENCH_CERTIFICATE": str(self.certificate)}
        self.site = self.folder / "site"
        for name, length in FILES.items():
            file = self.site / name
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as data:
                for at in range(0, length, MIB):
                    data.write(os.urandom(min(MIB, length - at)))
        for folder in [self.folder, self.site, self.site / "bytes"]:
            folder.chmod(0o755)

    def server(self, name):
        """A server that stays until `stop`."""
        if name not in self.running:
            self.running[name] = self.start(name)
        return self.running[name]

    def start(self, name):
        """A server of its own, as a context."""
        return SERVERS[name](self)

    def stop(self):
        for server in self.running.values():
            server.__exit__()
        self.running.clear()


class Nginx(Program):
    """nginx with HTTP/2 in one process, which has no thread but one.

    It keeps files open for ten minutes, unless `keeps_files` is false, as by default.
    """

    def __init__(self, bench, is_tls, keeps_files=True):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self.url = f"{'https' if is_tls else 'http'}://{self.address}"
        config = bench.folder / f"nginx-{port}.conf"
        config.write_text(nginx_config(bench, port, is_tls, keeps_files))
        super().__init__(CPUS[0], nginx_program(), "-e", "stderr", "-p", str(bench.folder), "-c", str(config))
        self.proc = pathlib.Path(f"/proc/{self.process.pid}")
        until_it_listens(port, self.process)

    cpu = Measured.cpu
    memory = Measured.memory


def nginx_config(bench, port, is_tls, keeps_files):
    temporary = "".join(
        f"  {kind}_temp_path {bench.folder}/nginx-{kind};\n"
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    )
    files = "  open_file_cache max=100 inactive=600s; open_file_cache_valid 600s;\n" if keeps_files else ""
    tls = f"    ssl_certificate {bench.certificate}; ssl_certificate_key {bench.key};\n" if is_tls else ""
    return (
        "daemon off; master_process off; worker_processes 1;\n"
        f"error_log stderr error; pid {bench.folder}/nginx-{port}.pid;\n"
        "worker_rlimit_nofile 120000; events { worker_connections 60000; use epoll; }\n"
        "http {\n"
        f"{temporary}"
        "  default_type text/plain; access_log off; gzip off;\n"
        "  sendfile on; tcp_nopush on; tcp_nodelay on;\n"
        "  keepalive_timeout 600s; keepalive_requests 1000000000;\n"
        f"{files}"
        "  ssl_session_cache shared:sessions:10m; ssl_session_tickets on; ssl_protocols TLSv1.2 TLSv1.3;\n"
        "  server {\n"
        f"    listen 127.0.0.1:{port} {'ssl ' if is_tls else ''}http2 backlog=4096; root {bench.site};\n"
        f"{tls}"
        "    http2_max_concurrent_streams 128;\n"
        f"    location = /hello {{ add_header cache-control no-cache; return 200 \"{'x' * 100}\"; }}\n"
        "  }\n}\n"
    )


def nginx_program():
    """Debian's nginx-light, which is installed if it is missing."""
    return shutil.which("nginx") or "/usr/sbin/nginx"


def until_it_listens(port, process):
    for _ in range(1000):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            break
        time.sleep(0.01)
    sys.exit(f"{process.args[0]} does not listen")


def free_port():
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return any_socket.getsockname()[1]


def spdy_server(bench, *more, tls=False):
    where = ["--listen", "127.0.0.1:0", "--cert", bench.certificate, "--key", bench.key] if tls else ["--plain", "127.0.0.1:0"]
    flags = ["--threads", "1", "--max-connections", "60000", *more]
    return Measured(TARGET / "spdy-server", *map(str, [*where, *flags]))


def go_server(_):
    """moby/spdystream on one thread. (Go has further ones for itself.)"""
    return Measured("env", "GOMAXPROCS=1", str(TARGET / "bench-spdystream"))


def bench_server(*arguments):
    return Measured(TARGET / "bench-server", *map(str, arguments))


SERVERS = {
    "spdy": spdy_server,
    "spdy tls": lambda bench: spdy_server(bench, tls=True),
    "spdy files": lambda bench: spdy_server(bench, str(bench.site)),
    "spdy files tls": lambda bench: spdy_server(bench, str(bench.site), tls=True),
    "spdy metrics": lambda bench: spdy_server(bench, "--metrics", "127.0.0.1:0"),
    "axum spdy": lambda _: bench_server("spdy"),
    "axum h2c": lambda _: bench_server("h2"),
    "nginx h2c": lambda bench: Nginx(bench, is_tls=False),
    "nginx h2": lambda bench: Nginx(bench, is_tls=True),
    "nginx h2, files not kept": lambda bench: Nginx(bench, is_tls=True, keeps_files=False),
    "go": go_server,
    "raw": lambda _: bench_server("raw"),
    "raw tls": lambda bench: bench_server("raw", bench.certificate, bench.key),
}


def install():
    """Installs what Debian has of the rivals, and builds the one in Go."""
    wanted = {
        "nginx-light": lambda: shutil.which("nginx") or pathlib.Path("/usr/sbin/nginx").exists(),
        "nghttp2-client": lambda: shutil.which("h2load"),
        "golang-go": lambda: shutil.which("go"),
        "golang-github-docker-spdystream-dev": lambda: pathlib.Path(GO_FOLDER).exists(),
    }
    missing = [package for package, is_there in wanted.items() if not is_there()]
    if missing and shutil.which("apt-get"):
        root = [] if os.geteuid() == 0 else ["sudo", "-n"]
        install = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *missing]
        print(f"installing {', '.join(missing)}", file=sys.stderr, flush=True)
        quiet = dict(stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        subprocess.run([*root, "apt-get", "-qq", "update"], **quiet)
        subprocess.run([*root, "env", "DEBIAN_FRONTEND=noninteractive", *install], check=True, **quiet)
    missing = [package for package, is_there in wanted.items() if not is_there()]
    if missing:
        sys.exit(f"these packages of Debian are missing: {' '.join(missing)}")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(TARGET / "go-cache")}
    build = ["go", "build", "-o", str(TARGET / "bench-spdystream"), "."]
    subprocess.run(build, cwd=ROOT / "benches" / "spdystream", env=environment, check=True)
