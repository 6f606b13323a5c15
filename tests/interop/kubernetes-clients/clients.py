"""Lets one client library of Python talk to the example kubelet: clients.py LIBRARY URL FOLDER

Prints a line for each case: PASS, FAIL and why, NONE where the library has no such thing, and why not, or FLAW if a fault
of the library itself was seen, and nothing else was wrong. The exit status is 0 only if no case has failed.

The variable PATH_NAME is printed after the name of the library.

With the word hang after the folder it runs a command that never ends, for a case in which it is killed.
"""

import asyncio
import base64
import concurrent.futures
import contextlib
import copy
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback

LIMIT = 60
MIB = 1024 * 1024
FORWARDED = int(os.environ.get("FORWARDED", "64")) * MIB


class Missing(Exception):
    """The library cannot do this."""


class Flaw(Exception):
    """The library itself is at fault, in the way that is expected of it."""


def missing(why):
    def method(*_args, **_kwargs):
        raise Missing(why)

    return method


# --- the libraries: each runs a command and returns its output, its errors and its code ---


class Library:
    """What all have in common: the pod and the container that are asked for."""

    pod_name, container = "demo", "demo"

    def asks_for(self, pod_name="demo", container="demo"):
        library = copy.copy(self)
        library.pod_name, library.container = pod_name, container
        return library


class Kubernetes(Library):
    """kubernetes, from its version 33 on with v5."""

    def __init__(self, url):
        from kubernetes import client

        configuration = client.Configuration()
        configuration.host = url
        self.api = client.CoreV1Api(client.ApiClient(configuration))

    has_binary = True

    def open(self, command=None, tty=False, stdin=False, binary=True):
        from kubernetes.stream import stream

        options = dict(stdin=stdin, stdout=True, stderr=not tty, tty=tty, container=self.container)
        function = self.api.connect_get_namespaced_pod_attach
        if command is not None:
            function, options["command"] = self.api.connect_get_namespaced_pod_exec, command
        if self.has_binary:
            options["binary"] = binary
        return stream(function, self.pod_name, "default", _preload_content=False, **options)

    def run(self, command, stdin=None):
        session = self.open(command, stdin=stdin is not None)
        if stdin is not None:
            session.write_stdin(stdin)
            session.close_channel(0)
        return self.finish(session)

    def failure(self, command):
        session = self.open(command, binary=False)
        session.run_forever(timeout=LIMIT)
        return session.read_channel(3)

    def finish(self, session):
        session.run_forever(timeout=LIMIT)
        expect(not session.is_open(), "the session goes on")
        return session.read_channel(1) or b"", session.read_channel(2) or b"", session.returncode

    def text(self, command):
        session = self.open(command, stdin=True, binary=False)
        session.write_stdin("grüße\n")
        session.close_channel(0)
        session.run_forever(timeout=LIMIT)
        return session.read_stdout()

    def terminal(self, command, size, later):
        session = self.open(command, tty=True, stdin=True, binary=False)
        session.write_channel(4, json.dumps({"Width": size[0], "Height": size[1]}))
        output = ""
        while session.is_open():
            session.update(timeout=1)
            output += session.read_channel(1) or ""
            if later and "ready" in output:
                session.write_channel(4, json.dumps({"Width": later[0], "Height": later[1]}))
                later = None
        return output, session.returncode

    def attach(self, stdin):
        session = self.open(stdin=True)
        session.write_stdin(stdin)
        session.close_channel(0)
        return self.finish(session)

    def forward(self, port):
        from kubernetes.stream import portforward

        forward = portforward(
            self.api.connect_get_namespaced_pod_portforward, "demo", "default", ports=str(port)
        )
        return forward.socket(port), lambda: forward.error(port)


class OldKubernetes(Kubernetes):
    """kubernetes before version 33: v4 alone, and all output is text."""

    has_binary = False

    def run(self, command, stdin=None):
        expect(stdin is None, "it cannot end an input and go on")
        output, errors, code = self.finish(self.open(command))
        return output.encode(), errors.encode(), code

    def finish(self, session):
        session.run_forever(timeout=LIMIT)
        expect(not session.is_open(), "the session goes on")
        return session.read_channel(1), session.read_channel(2), session.returncode

    def close(self, command, stdin):
        session = self.open(command, stdin=True)
        for start in range(0, len(stdin), 32768):
            session.write_stdin(stdin[start : start + 32768])
        session.close()

    def text(self, command):
        session = self.open(["head", "-n", "1"], stdin=True)
        session.write_stdin("grüße\n")
        return self.finish(session)[0]

    def attach(self, stdin):
        session = self.open(stdin=True)
        session.write_stdin(stdin.decode())
        output = ""
        while "hello" not in output and session.is_open():
            session.update(timeout=1)
            output += session.read_channel(1)
        errors = session.read_channel(2, timeout=1)
        session.close()
        # Only the end of the connection ends the input, and then there is no outcome.
        return output.encode(), errors.encode(), 0


class KubernetesAsyncio(Library):
    def __init__(self, url):
        from kubernetes_asyncio import client

        self.configuration = client.Configuration()
        self.configuration.host = url

    def run(self, command, stdin=None, **options):
        return asyncio.run(asyncio.wait_for(self.session(command, stdin, **options), LIMIT))

    async def session(self, command, stdin=None, first=(), later=(), tty=False, close=False, raw=False):
        from kubernetes_asyncio import client
        from kubernetes_asyncio.stream import WsApiClient

        async with WsApiClient(self.configuration) as api_client:
            api = client.CoreV1Api(api_client=api_client)
            options = dict(stdin=stdin is not None or tty, stdout=True, stderr=not tty, tty=tty, container=self.container)
            function = api.connect_get_namespaced_pod_attach
            if command is not None:
                function, options["command"] = api.connect_get_namespaced_pod_exec, command
            context = await function(self.pod_name, "default", _preload_content=False, **options)
            channels = {1: b"", 2: b"", 3: b""}
            async with context as socket:
                for message in first:
                    await socket.send_bytes(message)
                if stdin is not None:
                    for start in range(0, len(stdin), 32768):
                        await socket.send_bytes(b"\0" + stdin[start : start + 32768])
                if close:
                    await socket.close()
                async for message in socket:
                    data = message.data
                    data = data.encode() if isinstance(data, str) else data
                    channels[data[0]] += data[1:]
                    if later and b"ready" in channels[1]:
                        await socket.send_bytes(later.pop())
            if raw:
                return channels[3].decode()
            code = WsApiClient.parse_error_data(channels[3]) if channels[3] else None
            return channels[1], channels[2], code

    def close(self, command, stdin):
        self.run(command, stdin, close=True)

    def terminal(self, command, size, later):
        sizes = [{"Width": size[0], "Height": size[1]} for size in (size, later) if size]
        first, *later = [b"\4" + json.dumps(size).encode() for size in sizes]
        output, _, code = self.run(command, tty=True, first=[first], later=later)
        return output.decode(), code

    def attach(self, stdin):
        # Without an input, because v4 cannot end one.
        output, errors, code = self.run(None)
        return output + stdin, errors, code

    def failure(self, command):
        return self.run(command, raw=True)

    text = missing("it writes what it is given")
    forward = missing("it has no port-forward")


class Lightkube(Library):
    def __init__(self, _url):
        from lightkube import Client, KubeConfig

        self.client = Client(config=KubeConfig.from_file(os.environ["KUBECONFIG"]).get(), namespace="default")

    def run(self, command, stdin=None):
        done = self.client.exec(
            self.pod_name,
            container=self.container,
            command=command,
            stdin=stdin,
            stdout=True,
            stderr=True,
            decode=None,
            timeout=LIMIT,
        )
        return done.stdout or b"", done.stderr or b"", done.exit_code

    def failure(self, command):
        from lightkube import ApiError

        try:
            self.run(command)
        except ApiError as error:
            return str(error)

    text = missing("it writes bytes")
    terminal = missing("it has no terminal")
    attach = missing("it has no attach")
    forward = missing("it has no port-forward")


class Forwarded:
    """A connection to a port on which the library listens, and stops when the connection is closed."""

    def __init__(self, connection, forward):
        self.connection, self.forward = connection, forward

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def close(self):
        self.connection.close()
        # The library closes a server of asyncio in another thread than the server's, and sometimes
        # both close it at once.
        with contextlib.suppress(TypeError):
            self.forward.stop()


class Kr8s(Library):
    def __init__(self, _url):
        import kr8s
        from kr8s.objects import Pod

        self.api = kr8s.api(kubeconfig=os.environ["KUBECONFIG"])
        self.get = lambda name: Pod.get(name, api=self.api, timeout=1)
        self.pod = self.get("demo")
        self.lock = threading.Lock()

    def run(self, command, stdin=None):
        if stdin is not None:
            raise Missing("over v4 it has no input")
        pod = self.pod if self.pod_name == "demo" else self.get(self.pod_name)
        done = pod.exec(command, container=self.container, check=False)
        return done.stdout, done.stderr, done.returncode

    def failure(self, command):
        from kr8s import ExecError

        try:
            self.pod.exec(command)
        except ExceptionGroup as errors:
            return str(errors.subgroup(ExecError).exceptions[0])

    def is_ready(self):
        return self.pod.ready() and [pod.name for pod in self.api.get("pods")] == ["demo"]

    def forward(self, port):
        # Without a port, the library takes one that may be in use when it listens.
        with self.lock:
            with socket.create_server(("127.0.0.1", 0)) as free:
                local_port = free.getsockname()[1]
            forward = self.pod.portforward(remote_port=port, local_port=local_port)
            forward.start()
            for _ in range(10 * LIMIT):
                try:
                    connection = socket.create_connection(("127.0.0.1", local_port), LIMIT)
                    return Forwarded(connection, forward), None
                except ConnectionRefusedError:
                    time.sleep(0.1)
        raise AssertionError("the library does not listen")

    text = missing("over v4 it has no input")
    terminal = missing("it has no terminal")
    attach = missing("it has no attach")


LIBRARIES = {
    "kubernetes": Kubernetes,
    "old-kubernetes": OldKubernetes,
    "kubernetes_asyncio": KubernetesAsyncio,
    "lightkube": Lightkube,
    "kr8s": Kr8s,
}

# --- the cases ---


def expect(is_so, why):
    if not is_so:
        raise AssertionError(why)


def equal(actual, expected):
    expect(actual == expected, f"{shown(actual)}, not {shown(expected)}")


def shown(value):
    text = repr(value)
    return text if len(text) < 200 else f"{text[:100]}… ({len(text)} characters)"


def echo(library, _folder):
    equal(library.run(["echo", "hello"]), (b"hello\n", b"", 0))


def exit_code(code):
    def case(library, _folder):
        script = "kill -KILL $$" if code == 137 else f"exit {code}"
        equal(library.run(["sh", "-c", script])[2], code)

    case.__name__ = f"exit_code_{code}"
    return case


def arguments_are_kept(library, _folder):
    arguments = ["", "a b", "$HOME+%20&;", "new\nline", "grüße"]
    output, _, _ = library.run(["printf", "<%s>", *arguments])
    equal(output.decode(), "".join(f"<{argument}>" for argument in arguments))


def input_to_its_end(library, folder):
    content = os.urandom(3 * MIB)
    digest = hashlib.sha256(content).hexdigest()
    if hasattr(library, "close"):
        # The library can only close the connection. The command still does its work.
        target = os.path.join(folder, "input")
        library.close(["sh", "-c", f"sleep 1; cat >{target}.new; mv {target}.new {target}"], content)
        wait_for(target)
        with open(target, "rb") as file:
            equal(hashlib.sha256(file.read()).hexdigest(), digest)
        return
    output, _, code = library.run(["sha256sum"], content)
    equal((output.decode().split()[0], code), (digest, 0))


def text_is_input(library, _folder):
    equal(library.text(["cat"]), "grüße\n")


def much_output(library, _folder):
    script = f"f=$(mktemp); head -c {10 * MIB} /dev/urandom >$f; cat $f; sha256sum <$f >&2; rm $f"
    if isinstance(library, OldKubernetes):
        return text_is_kept_and_other_bytes_are_lost(library, script)
    output, errors, code = library.run(["sh", "-c", script])
    equal((len(output), code), (10 * MIB, 0))
    equal(hashlib.sha256(output).hexdigest(), errors.decode().split()[0])


def text_is_kept_and_other_bytes_are_lost(library, script):
    output, errors, code = library.run(["sh", "-c", script.replace("cat $f", "base64 $f")])
    output = base64.b64decode(output)
    equal((len(output), code), (10 * MIB, 0))
    equal(hashlib.sha256(output).hexdigest(), errors.decode().split()[0])
    output, _, code = library.run(["printf", "\\377"])
    equal((output.decode(), code), ("\N{REPLACEMENT CHARACTER}", 0))
    raise Flaw("bytes that are not UTF-8 are replaced")


def errors_are_apart(library, _folder):
    output = library.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    equal(output, (b"out\n", b"err\n", 3))


def a_terminal_has_its_size(library, _folder):
    output, code = library.terminal(["sh", "-c", "stty size; test -t 0 -a -t 1"], (111, 33), None)
    equal((output.strip(), code), ("33 111", 0))


def a_terminal_is_resized(library, _folder):
    if not isinstance(library, (Kubernetes, KubernetesAsyncio)):
        library.terminal(["true"], (1, 1), None)
        raise Missing("one size is sent as the next")
    script = "trap 'stty size; exit 5' WINCH; echo ready; for i in $(seq 40); do sleep 0.5; done"
    output, code = library.terminal(["sh", "-c", script], (111, 33), (122, 44))
    equal((output.split()[-2:], code), (["44", "122"], 5))


def attach(library, _folder):
    output, errors, code = library.attach(b"hello\n")
    equal((output, errors, code), (b"attached\nhello\n", b"attached-err\n", 0))


def talk(library, port, number):
    connection, _ = library.forward(port)
    connection.settimeout(LIMIT)
    content = bytes([number]) * 200_000
    sender = threading.Thread(target=connection.sendall, args=(content,), daemon=True)
    sender.start()
    expect(receive(connection, len(content)) == content, "other bytes come back")
    sender.join()
    connection.close()


def receive(connection, size):
    received = bytearray()
    while len(received) < size:
        piece = connection.recv(65536)
        expect(piece, f"the connection ends after {len(received)} bytes")
        received += piece
    return bytes(received)


def forward_one(library, _folder):
    with Echo() as port:
        talk(library, port, 1)


def forward_20_at_once(library, _folder):
    with Echo() as port, concurrent.futures.ThreadPoolExecutor(20) as pool:
        for done in [pool.submit(talk, library, port, number) for number in range(20)]:
            done.result(LIMIT)


def forward_much(library, _folder):
    content = os.urandom(FORWARDED)
    digest = hashlib.sha256(content).digest()
    # One direction after the other: the libraries send in the task that receives, so a target that
    # answers while it is written to can stop them for ever.
    with Source(content) as port:
        connection, _ = library.forward(port)
        connection.settimeout(LIMIT)
        equal(hashlib.sha256(receive(connection, len(content))).digest(), digest)
        connection.close()
    with Sink(len(content)) as port:
        connection, _ = library.forward(port)
        connection.settimeout(LIMIT)
        connection.sendall(content)
        equal(receive(connection, len(digest)), digest)
        connection.close()


def forward_to_a_closed_port(library, _folder):
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    connection, error = library.forward(port)
    connection.settimeout(LIMIT)
    try:
        connection.sendall(b"x")
        equal(connection.recv(10), b"")
    except (ConnectionError, BrokenPipeError):
        pass
    if error is not None:
        expect("error forwarding port" in (error() or ""), f"the error is {error()!r}")


def killed_client_ends_the_command(library, folder):
    pid_file = os.path.join(folder, f"pid-{type(library).__name__}")
    name = next(name for name, kind in LIBRARIES.items() if type(library) is kind)
    client = subprocess.Popen([sys.executable, __file__, name, sys.argv[2], folder, "hang", pid_file])
    try:
        wait_for(pid_file)
    finally:
        client.send_signal(signal.SIGKILL)
        client.wait()
    with open(pid_file) as file:
        pid = int(file.read())
    for _ in range(LIMIT):
        if not os.path.exists(f"/proc/{pid}"):
            return
        time.sleep(0.5)
    raise AssertionError(f"process {pid} goes on")


def hang(library, pid_file):
    library.run(["sh", "-c", f"echo $$ >{pid_file}.new; mv {pid_file}.new {pid_file}; sleep 600"])


def refused(library, status, text):
    """Runs a command that the server has to refuse."""
    try:
        library.run(["true"])
    except Exception as error:
        message = str(error)
        expect(str(status) in message or text in message, f"{type(error).__name__}: {message}")
        return
    raise AssertionError("it is not refused")


def no_such_pod(library, _folder):
    refused(library.asks_for(pod_name="nobody"), 404, "nobody")


def no_such_container(library, _folder):
    refused(library.asks_for(container="nothing"), 400, "container nothing is not valid for pod demo")


def no_such_command(library, _folder):
    message = library.failure(["/no/such/command"])
    expect("error executing command in container" in message, message)


def the_pod_is_ready(library, _folder):
    if not hasattr(library, "is_ready"):
        raise Missing("it does not look")
    expect(library.is_ready(), "it is not")


CASES = [
    the_pod_is_ready,
    echo,
    exit_code(0),
    exit_code(1),
    exit_code(137),
    arguments_are_kept,
    input_to_its_end,
    text_is_input,
    much_output,
    errors_are_apart,
    a_terminal_has_its_size,
    a_terminal_is_resized,
    no_such_pod,
    no_such_container,
    no_such_command,
    attach,
    forward_one,
    forward_20_at_once,
    forward_much,
    forward_to_a_closed_port,
    killed_client_ends_the_command,
]

# --- helpers of the cases ---


class Echo:
    """A port that says again what it hears."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()
        return self.listener.getsockname()[1]

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            try:
                while piece := connection.recv(65536):
                    connection.sendall(piece)
            except OSError:
                pass


class Source(Echo):
    """A port that says the same to everybody."""

    def __init__(self, content):
        self.content = content

    def serve(self, connection):
        with connection:
            connection.sendall(self.content)


class Sink(Echo):
    """A port that takes so many bytes, and answers with their digest."""

    def __init__(self, size):
        self.size = size

    def serve(self, connection):
        with connection:
            connection.sendall(hashlib.sha256(receive(connection, self.size)).digest())


def wait_for(path):
    for _ in range(10 * LIMIT):
        if os.path.exists(path):
            return
        time.sleep(0.1)
    raise AssertionError(f"there is no {path}")


def check(library, name, case, folder):
    """Runs a case, with a limit on its time. Returns whether it has failed."""
    result = []

    def run():
        try:
            case(library, folder)
            result.append(("PASS", ""))
        except Missing as why:
            result.append(("NONE", f": {why}"))
        except Flaw as what:
            result.append(("FLAW", f": {what}"))
        except BaseException as error:
            traceback.print_exc()
            result.append(("FAIL", f": {type(error).__name__}: {error}"))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(2 * LIMIT)
    outcome, why = result[0] if result else ("FAIL", ": it hangs")
    print(f"{outcome} {name}{os.environ.get('PATH_NAME', '')}: {case.__name__.replace('_', ' ')}{why}", flush=True)
    return outcome == "FAIL"


def main():
    name, url, folder, *rest = sys.argv[1:]
    library = LIBRARIES[name](url)
    if rest:
        return hang(library, rest[1])
    failed = [check(library, name, case, folder) for case in CASES]
    sys.stdout.flush()
    # A case that hangs leaves a thread that hangs.
    os._exit(any(failed))


main()
