"""Targets behind a port-forward, and clients in front of it."""

import hashlib
import os
import socket
import sys
import threading

SECONDS = 50


def serve(handle):
    """Prints the port, and gives each connection to a thread."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    print("port", listener.getsockname()[1], flush=True)
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=handle, args=(connection,), daemon=True).start()


def echo(connection):
    """Sends back what comes, and finishes when the client has."""
    with connection:
        while piece := connection.recv(65536):
            connection.sendall(piece)


def close_early(connection):
    """Says something and closes, whatever the client has to say."""
    connection.sendall(b"bye\n")
    connection.close()


def hold(connection):
    """Tells when the connection begins and ends."""
    print("accepted", flush=True)
    try:
        while connection.recv(65536):
            pass
    except OSError:
        pass
    print("closed", flush=True)


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.settimeout(SECONDS)
    return connection


def read_all(connection):
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def echo_client(port, count, length):
    """Sends to an echo on `count` connections at once, finishes, and compares what comes back."""
    failures = []

    def one():
        try:
            sent = os.urandom(length)
            with connect(port) as connection:
                writer = threading.Thread(target=write, args=(connection, sent))
                writer.start()
                received = read_all(connection)
                writer.join()
            if received != sent:
                failures.append(f"{len(received)} of {length} bytes, {hashlib.sha256(received).hexdigest()}")
        except OSError as error:
            failures.append(repr(error))

    def write(connection, data):
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit("\n".join(failures))


def expect_nothing(port):
    """The connection has to end, with nothing on it."""
    try:
        with connect(port) as connection:
            if received := read_all(connection):
                sys.exit(f"{received!r} came")
    except ConnectionResetError:
        pass


def early_client(port):
    """Reads what a target says that closes early. The connection has to end."""
    with connect(port) as connection:
        if (received := read_all(connection)) != b"bye\n":
            sys.exit(f"{received!r} came")


def main(what, *arguments):
    numbers = [int(argument) for argument in arguments]
    match what:
        case "echo":
            serve(echo)
        case "close-early":
            serve(close_early)
        case "hold":
            serve(hold)
        case "closed-port":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                print(listener.getsockname()[1])
        case "echo-client":
            echo_client(*numbers)
        case "expect-nothing":
            expect_nothing(*numbers)
        case "early-client":
            early_client(*numbers)
        case "connect":
            with connect(*numbers) as connection:
                connection.recv(1)


main(*sys.argv[1:])
