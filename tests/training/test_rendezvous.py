"""Processes that meet, speak and lose each other: threads here, and small programs where one is killed."""

import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from helpers import ROOT
from helpers.ports import free_port

from vaex.errors import LostProcessError, UserError
from vaex.training.connections.rendezvous import Relay, meet
from vaex.training.connections.wire import Wire, connect, host_and_port, listen

QUICK = 0.6  # seconds to wait for a process that does not come


def together(count, present, timeout=5.0, address=None):
    """What ``meet`` gives or raises in each of the processes that are present."""
    address = address or f"localhost:{free_port()}"

    def one(process):
        try:
            return meet(address, count, process, timeout)
        except UserError as error:
            return error

    with ThreadPoolExecutor(len(present)) as threads:
        return list(threads.map(one, present))


def test_processes_that_met_gather_in_order_and_part():
    partners = together(3, [0, 1, 2])
    with ThreadPoolExecutor(3) as threads:
        for _ in range(2):
            gathered = list(threads.map(lambda p: p[1].gather({"process": p[0]}), enumerate(partners)))
            assert gathered == [[{"process": 0}, {"process": 1}, {"process": 2}]] * 3
    for one in reversed(partners):
        one.part()
    time.sleep(0.1)
    for one in partners:
        one.check()  # an end that was announced is no loss


@pytest.mark.slow
@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([0], r"processes 1, 2 of 3 did not come within 0.6 s \(--process_timeout\)"),
        ([0, 1], r"process 2 of 3 did not come within 0.6 s"),
        ([1], r"process 0 did not answer at --coordinator_address=localhost:\d+ within 0.6 s"),
        ([0, 1, 1], r"two processes have --process_id=1"),
        ([0, 0], r"process 0 can't listen at port \d+ of this machine .*another --process_id=0"),
    ],
)
def test_who_is_missing_or_there_twice_is_named_to_all(present, message):
    began = time.monotonic()
    errors = together(3, present, timeout=QUICK)
    assert time.monotonic() - began < 10
    assert all(isinstance(error, UserError) for error in errors)
    named = [error for error in errors if not str(error).startswith("process 0 ended")]
    assert any(re.search(message, str(error)) for error in named), errors
    if 0 in present and present.count(0) == 1:
        assert len({str(error) for error in named if "not waiting as process 0" not in str(error)}) == 1


def test_processes_that_count_differently_are_told_so():
    address = f"localhost:{free_port()}"
    with ThreadPoolExecutor(2) as threads:
        first, second = (threads.submit(meet, address, count, process, 5.0) for count, process in ((2, 0), (3, 1)))
        for future in (first, second):
            with pytest.raises(UserError, match="--num_processes is 3 in process 1 and 2 in process 0"):
                future.result()


def test_a_process_that_left_before_all_had_come_may_come_again():
    address = f"localhost:{free_port()}"
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(meet, address, 3, 0, 10.0)
        early = connect(address, 5.0)
        early.send({"kind": "hello", "process": 1, "count": 3})
        assert early.receive(5.0) == {"kind": "wait"}
        early.close()
        stranger = connect(address, 5.0)
        stranger.socket.sendall(b"GET / HTTP/1.1\r\n\r\n")
        others = [threads.submit(meet, address, 3, process, 10.0) for process in (1, 2)]
        partners = [future.result() for future in (first, *others)]
        stranger.close()
    for one in partners:
        one.part()


def test_a_port_of_another_program_is_no_first_process():
    with socket.create_server(("localhost", 0)) as server, ThreadPoolExecutor(1) as threads:
        address = f"localhost:{server.getsockname()[1]}"
        visit = threads.submit(meet, address, 2, 1, 5.0)
        server.accept()[0].close()
        with pytest.raises(UserError, match="not waiting as process 0"):
            visit.result()


def test_one_that_fails_tells_the_others_why():
    partners = together(3, [0, 1, 2])
    partners[2].fail("no space left")
    for number in (0, 1):
        with pytest.raises(
            LostProcessError, match=rf"process 2 has ended \(no space left\), so process {number} stops"
        ):
            partners[number].check(wait=3.0)
        with pytest.raises(LostProcessError, match="process 2"):
            partners[number].gather(1)
    for number in (0, 1):
        partners[number].part()  # else this process would be ended


WAITS = """
import sys, time
from vaex.training.connections.rendezvous import meet
partners = meet(sys.argv[1], 3, int(sys.argv[2]), 60.0)
print("met", flush=True)
time.sleep(60)  # as in a computation that waits for all: nothing here looks
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_those_that_wait_for_it_with_one_line(victim):
    address = f"localhost:{free_port()}"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WAITS, address, str(process)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for process in range(3)
    ]
    try:
        for process in started:
            assert process.stdout.readline() == "met\n"
        began = time.monotonic()
        started[victim].send_signal(signal.SIGKILL)
        for number, process in enumerate(started):
            _, err = process.communicate(timeout=30)
            if number != victim:
                assert process.returncode == LostProcessError.exit_code
                assert err.startswith(f"vaex: process {victim} has ended, so process {number} stops as well")
                assert err.count("\n") == 1
        assert time.monotonic() - began < 20
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_relay_carries_both_ways_and_is_silent_where_the_far_end_breaks():
    with socket.create_server(("localhost", 0)) as server:
        relay = Relay(f"localhost:{server.getsockname()[1]}", 5.0)
        near = socket.create_connection(host_and_port(relay.address))
        far = server.accept()[0]
        near.sendall(b"there")
        assert far.recv(10) == b"there"
        far.sendall(b"back")
        assert near.recv(10) == b"back"
        far.close()
        near.settimeout(0.1)
        for _ in range(3):
            near.sendall(b"is anyone there?")
            with pytest.raises(TimeoutError):  # not b"", which jax's client takes for the end of all
                near.recv(1)
        near.close()
        relay.close()


def test_messages_are_lines_of_json_and_nothing_else():
    with socket.create_server(("localhost", 0)) as server:
        sender = Wire(socket.create_connection(server.getsockname()))
        receiver = Wire(server.accept()[0])
        sender.send({"kind": "said", "value": "a\nb"})
        sender.send({"kind": "beat"})
        assert [receiver.receive(1.0), receiver.receive(1.0)] == [{"kind": "said", "value": "a\nb"}, {"kind": "beat"}]
        assert receiver.receive(0.05) is None and not receiver.is_closed()
        sender.socket.sendall(b"[1]\nnothing\n")
        assert receiver.receive(1.0) is None and receiver.receive(1.0) is None
        sender.close()
        assert receiver.is_closed() and receiver.receive(1.0) is None
        receiver.close()


@pytest.mark.parametrize("address", ["localhost", "localhost:", ":80", "localhost:x", "localhost:0", "localhost:70000"])
def test_an_address_is_a_host_and_a_port(address):
    with pytest.raises(UserError, match="expected HOST:PORT"):
        host_and_port(address)


def test_a_port_that_was_listened_at_is_free_again_while_its_connections_live():
    address = f"localhost:{free_port()}"
    with listen(address) as server, ThreadPoolExecutor(1) as threads:
        wire = threads.submit(connect, address, 5.0)
        accepted = server.accept()[0]
    with listen(address):
        pass
    accepted.close()
    wire.result().close()
