"""What the figures depend on: the CPUs, the kernel, congestion control, and the cost of a wake-up."""

import ctypes
import fcntl
import os
import pathlib
import platform
import re
import socket
import struct
import subprocess
import time

from measured import CPUS, ROOT

NET = pathlib.Path("/proc/sys/net/ipv4")


def describe():
    """Everything that has to be told with a figure."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "cpu": cpu_model(),
        "cpus": len(CPUS),
        "caches": caches(),
        "virtual": "hypervisor" in read("/proc/cpuinfo"),
        "kernel": platform.release(),
        "memory_gib": round(int(re.search(r"MemTotal:\s+(\d+)", read("/proc/meminfo"))[1]) / (1 << 20), 1),
        "congestion": congestion(),
        "congestions": congestions(),
        "wakeup_us": {"other_cpu": wakeup(CPUS[0], CPUS[-1]), "same_cpu": wakeup(CPUS[0], CPUS[0])},
        "load_average": os.getloadavg()[0],
        "descriptors": limit_of_descriptors(),
        "rustc": output("rustc", "--version"),
        "nginx": output("nginx", "-v"),
        "go": output("go", "version"),
        "h2load": output("h2load", "--version"),
    }


def sentences(machine):
    """The machine in a few lines."""
    wakeup = machine["wakeup_us"]
    kind = "virtual " if machine["virtual"] else ""
    yield f"{machine['cpus']} {kind}CPUs: {machine['cpu']}; {', '.join(machine['caches'])}; {machine['memory_gib']} GiB"
    yield f"Linux {machine['kernel']}, congestion control {machine['congestion']} of {', '.join(machine['congestions'])}"
    yield (
        f"a wake-up costs {wakeup['other_cpu']:.1f} µs to another CPU and {wakeup['same_cpu']:.1f} µs on the same one; "
        f"load average at the start {machine['load_average']:.1f}"
    )
    programs = [machine[name] for name in ["rustc", "nginx", "go", "h2load"] if machine[name]]
    yield f"commit {machine['commit']}, {machine['date']}; {'; '.join(programs)}"


def cpu_model():
    found = re.search(r"^(?:model name|Processor)\s*:\s*(.*)$", read("/proc/cpuinfo"), re.MULTILINE)
    return found[1] if found else platform.machine()


def caches():
    """The caches of the first CPU, such as `L2 512K`."""
    found = []
    for cache in sorted(pathlib.Path(f"/sys/devices/system/cpu/cpu{CPUS[0]}/cache").glob("index*")):
        level, kind, size = (read(cache / name).strip() for name in ["level", "type", "size"])
        found.append(f"L{level}{ {'Data': 'd', 'Instruction': 'i'}.get(kind, '')} {size}")
    return found


def wakeup(first, second, rounds=20_000):
    """Microseconds from a write into a pipe until the process that waits for it runs.

    Two processes pass a byte to and fro. Each pass is a write, a wake-up and a read.
    """
    there, back = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {second})
        while os.read(there[0], 1) == b"x":
            os.write(back[1], b"x")
        os._exit(0)
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {first})
    for count in [rounds // 10, rounds]:
        start = time.perf_counter()
        for _ in range(count):
            os.write(there[1], b"x")
            os.read(back[0], 1)
        passed = time.perf_counter() - start
    os.write(there[1], b".")
    os.waitpid(child, 0)
    os.sched_setaffinity(0, own)
    for end in [*there, *back]:
        os.close(end)
    return passed / (2 * rounds) * 1e6


def isolate():
    """Moves this process into a network of its own, with loopback alone.

    There the congestion control and the range of ports can be set without effect on the rest of the system. Returns
    whether the system permits it.
    """
    clone_newnet = 0x4000_0000
    if ctypes.CDLL(None, use_errno=True).unshare(clone_newnet) != 0:
        return False
    get_flags, set_flags, up = 0x8913, 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, get_flags, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack("16sh22x", answer)[1] | up
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh22x", b"lo", flags))
    # One port for each of 50,000 connections to the same address.
    (NET / "ip_local_port_range").write_text("2000 65000")
    return True


def congestion():
    return read(NET / "tcp_congestion_control").strip()


def congestions():
    return read(NET / "tcp_available_congestion_control").split()


def use_congestion(name):
    """Makes new connections over loopback use this congestion control. Only for a network of its own.

    The system's setting may only be changed outside of it, so it is an attribute of the routes.
    """
    for place in ["127.0.0.0/8", "127.0.0.1"]:
        route = f"local {place} dev lo proto kernel scope host src 127.0.0.1 table local congctl {name}"
        subprocess.run(["ip", "route", "replace", *route.split()], check=True)


def limit_of_descriptors():
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def kernel_memory():
    """KiB that the kernel has allocated for its objects, sockets among them."""
    return int(re.search(r"Slab:\s+(\d+)", read("/proc/meminfo"))[1])


def read(path):
    return pathlib.Path(path).read_text()


def output(*command):
    """The first line that a program prints, or nothing if there is no such program."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines else ""
