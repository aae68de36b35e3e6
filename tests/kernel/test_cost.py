"""What the programs do for each event, counted by a machine and not by a clock: the same wherever it runs.

Whoever needs more raises a number here, and says why.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from tests.kernel.bpfmachine import Machine
from tracer.kernel import decode, flags
from tracer.kernel.btf import KernelTypes
from tracer.kernel.compiler import compile_programs
from tracer.kernel.flags import LoadOptions, compile_flags
from tracer.kernel.hooks import SOURCES

pytestmark = pytest.mark.kernel

COLUMNS = ("instructions", "look-ups", "updates", "deletes", "reads", "stacks", "clocks", "records")
"""Look-ups, updates and deletes: of hash maps; reads: bpf_probe_read_kernel(); stacks: bpf_get_stack()."""
MOST = {
    "a timer of others": (6, 0, 0, 0, 0, 0, 0, 0),
    "a use of a socket that has its owner": (27, 0, 0, 0, 0, 0, 0, 0),
    "a use of a socket that is not followed": (27, 0, 0, 0, 0, 0, 0, 0),
    "a task's transition, for the packets' program": (8, 0, 0, 0, 0, 0, 0, 0),
    "a packet's transition, for the tasks' program": (28, 0, 0, 0, 0, 0, 0, 0),
    "a connection, both ends, whose TIME_WAIT expires": (2762, 1, 1, 1, 9, 0, 6, 3),
    "a TIME_WAIT replaced, as the last was": (365, 1, 0, 1, 5, 0, 1, 1),
}
TRANSITIONS = ("transition_packet", "transition_task")

CLOSE, ESTABLISHED, SYN_SENT, SYN_RECV = 7, 1, 2, 3
FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, LAST_ACK, LISTEN = 4, 5, 6, 8, 9, 10
INUM, HASH, AF_INET, TCP = 4026531840, 0x12345678, 2, 6
END_OF_CHAIN = 1
ENTRY_BYTES = 48
"""Of the kernel's own: struct htab_elem of kernel/bpf/hashtab.c."""
REASON, OPENER = 9, 19  # in struct alike


class Host:
    """What the programs read of a kernel's memory."""

    def __init__(self, *also: str) -> None:
        with KernelTypes() as types:
            options = compile_flags(LoadOptions(), SOURCES["timer"], types)
        # none is loaded, so they need not be this kernel's
        ours = ("-DTASK_COPIES=1", "-DHAVE_TYPED_TASK", "-DHAVE_CMPXCHG", *also)
        options = [one for one in options if one.split("=")[0] not in {own.split("=")[0] for own in ours}]
        self.machine = Machine(compile_programs([*options, *ours]))
        told = "\n".join(options)
        self._at = {name: int(value) for name, value in re.findall(r"-DOFFSET_(\w+)=(\d+)", told)}
        self.time_wait = 60 * int(re.findall(r"-DKERNEL_HZ=(\d+)", told)[0])
        self.starts = {name: int(value, 0) for name, value in re.findall(r"-DSTART_(\w+)=(\w+)ULL", told)}
        self._bucket = self.machine.memory(64)
        table = self._make(inet_hashinfo__ehash=(8, self._bucket))
        self._net = self._make(
            net__ns__ns_common__inum=(4, INUM),
            net__ipv4__netns_ipv4__tcp_death_row__inet_timewait_death_row__hashinfo=(8, table),
        )
        self.become(1)

    def set(self, address: int, **members: tuple[int, int]) -> None:
        """Members by their names, within one another if need be, with size and value."""
        for path, (size, value) in members.items():
            names = re.findall(r"[a-z0-9]+(?:_[a-z0-9]+)*", path)
            at = sum(self._at["__".join(pair)] for pair in zip(names[::2], names[1::2], strict=True))
            self.machine.store(address + at, size, value)

    def become(self, pid: int) -> None:
        """From now on that process runs."""
        task = self.machine.task = self._make(task_struct__start_boottime=(8, 5), task_struct__tgid=(4, pid))
        self.set(task, task_struct__group_leader=(8, task))

    def _make(self, **members: tuple[int, int]) -> int:
        address = self.machine.memory(8192)
        self.set(address, **members)
        return address

    def _ends(self, port: int) -> dict[str, tuple[int, int]]:
        return {
            "sock_common__skc_family": (2, AF_INET),
            "sock_common__skc_net": (8, self._net),
            "sock_common__skc_hash": (4, HASH),
            "sock_common__skc_num": (2, port),
        }

    def socket(self, port: int) -> int:
        """One that a process has open."""
        references = "file__f_ref" if "file__f_ref" in self._at else "file__f_count"
        socket = self._make(socket__file=(8, self._make(**{references: (8, 1)})))
        return self._make(**self._ends(port), sock__sk_protocol=(2, TCP), sock__sk_socket=(8, socket))

    def mini_socket(self, port: int, expires: int = 0) -> int:
        """In the kernel's table, alone. Returns its timer."""
        tw = self._make(
            **self._ends(port),
            sock_common__skc_state=(1, TIME_WAIT),
            sock_common__skc_nulls_node__hlist_nulls_node__next=(8, END_OF_CHAIN),
            inet_timewait_sock__tw_substate=(1, TIME_WAIT),
            inet_timewait_sock__tw_sport=(2, port << 8 & 0xFF00 | port >> 8),
        )
        self.machine.store(self._bucket, 8, tw + self._at["sock_common__skc_nulls_node"])
        timer = tw + self._at["inet_timewait_sock__tw_timer"]
        self.set(
            timer,
            timer_list__function=(8, self.starts["tw_timer_handler"]),
            timer_list__expires=(8, expires),
        )
        return timer

    def other_timer(self) -> int:
        return self._make(timer_list__function=(8, self.starts["tcp_keepalive_timer"]))

    def transition(self, sk: int, old: int, new: int, *, owned: bool = False) -> None:
        self.set(sk, sock__sk_lock__socket_lock_t__owned=(4, int(owned)))
        if not owned:
            self.set(sk, tcp_sock__tcp_clock_cache=(8, self.machine.now))
        for program in TRANSITIONS:
            self.machine.run(program, sk, old, new)

    def followed(self) -> int:
        """How many sockets are."""
        machine = self.machine
        in_slots = [place for place in machine.entries("slots").values() if machine.load(place, 8)]
        return len(in_slots) + len(machine.entries("socks"))

    def live(self) -> None:
        """Both ends of a connection; the server closes first, and its TIME_WAIT expires."""
        client, server = self.socket(40000), self.socket(80)
        self.transition(client, CLOSE, SYN_SENT, owned=True)
        self.transition(server, LISTEN, SYN_RECV)
        self.transition(server, SYN_RECV, ESTABLISHED)
        self.transition(client, SYN_SENT, ESTABLISHED, owned=True)
        self.machine.run("tcp_read", server)
        self.set(server, sock__sk_lock__socket_lock_t__owned=(4, 0), sock__sk_socket=(8, 0))
        self.machine.run("socket_received", server)
        self.transition(server, ESTABLISHED, FIN_WAIT1, owned=True)
        self.transition(client, ESTABLISHED, CLOSE_WAIT)
        self.transition(server, FIN_WAIT1, FIN_WAIT2)
        self.transition(client, CLOSE_WAIT, LAST_ACK, owned=True)
        timer = self.mini_socket(80)
        self.transition(server, FIN_WAIT2, CLOSE)
        self.transition(client, LAST_ACK, CLOSE)
        self.machine.run("timer_cancelled", timer)
        self.machine.run("timer_expired", timer, 0)

    def check(self, what: str) -> None:
        """All that was done since the last time is no more than this."""
        done, most = self.machine.done, dict(zip(COLUMNS, MOST[what], strict=True))
        assert {column: done[column] for column in COLUMNS if done[column] > most[column]} == {}
        done.clear()


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize("program", ["timer_cancelled", "timer_expired"])
def test_a_timer_of_others(host: Host, program: str) -> None:
    host.machine.run(program, host.other_timer(), 0, 0)
    host.check("a timer of others")


def test_what_a_time_wait_takes(host: Host) -> None:
    entry = host.machine.compiled.maps["tws"]
    assert ENTRY_BYTES + entry.key_size + entry.value_size == flags.TW_BYTES


def test_time_waits_take_no_more_than_a_hundredth_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1 << 18}
    monkeypatch.setattr("tracer.kernel.flags.os.sysconf", sizes.__getitem__)
    with KernelTypes() as types:
        options = compile_flags(LoadOptions(), SOURCES["timer"], types)
    assert "-DMAX_TWS=67108" in options


@pytest.mark.parametrize(
    ("processor", "release", "has"),
    [
        ("x86_64", "5.12.0", True),
        ("x86_64", "5.10.0-38-amd64", False),
        ("aarch64", "5.18.0", True),
        ("aarch64", "5.15.0", False),
        ("riscv64", "7.0.0", False),
    ],
)
def test_where_sockets_have_places(
    monkeypatch: pytest.MonkeyPatch, processor: str, release: str, *, has: bool
) -> None:
    """Where one is not taken without a compare-and-swap, there is as much room all the same."""
    kernel = SimpleNamespace(machine=processor, release=release)
    monkeypatch.setattr("tracer.kernel.flags.os.uname", lambda: kernel)
    with KernelTypes() as types:
        options = compile_flags(LoadOptions(max_socks=1000), SOURCES["timer"], types)
    assert ("-DHAVE_CMPXCHG" in options) == has
    assert "-DSLOT_BITS=6" in options
    assert f"-DMAX_SOCKS={1000 - 64 * has}" in options


def test_what_others_do(host: Host) -> None:
    sk = host.socket(40000)
    host.transition(sk, CLOSE, SYN_SENT, owned=True)
    assert host.followed() == 1
    host.machine.done.clear()
    host.machine.run("transition_packet", sk, SYN_SENT, ESTABLISHED)
    host.check("a task's transition, for the packets' program")
    host.set(sk, sock__sk_lock__socket_lock_t__owned=(4, 0))
    host.machine.run("transition_packet", sk, SYN_SENT, ESTABLISHED)
    host.machine.done.clear()
    host.machine.run("transition_task", sk, SYN_SENT, ESTABLISHED)
    host.check("a packet's transition, for the tasks' program")
    for program in ("tcp_read", "socket_sent", "socket_received"):
        host.machine.run(program, sk)
        host.check("a use of a socket that has its owner")
    others = host.socket(40001)
    for program in ("tcp_read", "socket_sent", "socket_received"):
        host.machine.run(program, others)
        host.check("a use of a socket that is not followed")


def test_a_packet_that_came_while_its_program_ran(host: Host) -> None:
    """The kernel drops that run; the next program sees to it, once."""
    sk = host.socket(40000)
    host.transition(sk, CLOSE, SYN_SENT, owned=True)
    host.transition(sk, SYN_SENT, ESTABLISHED, owned=True)
    host.set(sk, sock__sk_lock__socket_lock_t__owned=(4, 0))
    host.machine.run("transition_task", sk, ESTABLISHED, CLOSE)
    assert (len(host.machine.records), host.followed()) == (2, 0)
    other = host.socket(40001)
    host.transition(other, ESTABLISHED, CLOSE)
    assert (len(host.machine.records), host.followed()) == (3, 0)


def test_a_whole_life(host: Host) -> None:
    host.live()  # the process is told of
    host.machine.done.clear()
    host.machine.records.clear()
    host.live()
    host.check("a connection, both ends, whose TIME_WAIT expires")
    assert len(host.machine.records) == 3
    assert (host.followed(), len(host.machine.entries("tws"))) == (0, 0)


def test_what_a_dropped_run_left_hides_no_later_transition(host: Host) -> None:
    sk = host.socket(80)
    host.transition(sk, LISTEN, SYN_RECV)
    host.machine.run("transition_packet", sk, SYN_RECV, ESTABLISHED)
    host.machine.run("transition_task", sk, ESTABLISHED, CLOSE)
    assert (len(host.machine.records), host.followed()) == (1, 0)


def test_none_is_followed_while_programs_are_attached(host: Host) -> None:
    """Its end may not be shown, and the next one at its address have what is known of it."""
    machine, sk = host.machine, host.socket(80)
    host.transition(sk, LISTEN, SYN_RECV)
    host.transition(sk, SYN_RECV, ESTABLISHED)
    assert host.followed() == 1
    host.transition(sk, ESTABLISHED, CLOSE)
    (attaching,) = machine.entries("attaching").values()
    machine.store(attaching, 4, 1)
    host.transition(sk, LISTEN, SYN_RECV)
    host.transition(sk, SYN_RECV, ESTABLISHED)
    assert host.followed() == 0
    machine.store(attaching, 4, 0)
    host.transition(sk, ESTABLISHED, FIN_WAIT1, owned=True)
    assert host.followed() == 1
    host.transition(sk, FIN_WAIT1, CLOSE)
    assert (host.followed(), len(machine.records)) == (0, 3)


def test_the_next_socket_at_an_address_has_its_own_user(host: Host) -> None:
    sk = host.socket(80)
    openers = []
    for pid in (1, 2):
        host.become(pid)
        host.transition(sk, LISTEN, SYN_RECV)
        host.transition(sk, SYN_RECV, ESTABLISHED)
        for program in ("socket_received", "socket_sent"):
            host.machine.run(program, sk)
        host.transition(sk, ESTABLISHED, CLOSE)
        *_, alike = decode.EVENT_RECORD.unpack(host.machine.records[-1])
        openers.append(decode.ALIKE_RECORD.unpack(alike)[OPENER])
    assert openers == [1, 2]


def test_the_stack_is_unwound_once(host: Host) -> None:
    """Then it is read where it told, as long as it is the same."""
    machine = host.machine
    reasons: list[str] = []
    unwound: list[int] = []
    inner = (1, 2, 0x1001, 0x1002)
    for frames in (
        (*inner, host.starts["tcp_v4_rcv"] + 8),
        (*inner, host.starts["tcp_v4_rcv"] + 8),
        (*inner, host.starts["tcp_timewait_state_process"] + 8),
        (*inner, 0x1003, host.starts["tcp_v4_rcv"] + 8),
        (1, 2, 0x1001, host.starts["tcp_timewait_state_process"] + 8, host.starts["tcp_v4_rcv"] + 8),
    ):
        timer = host.mini_socket(80, expires=2 * machine.jiffies)
        host.transition(host.socket(80), FIN_WAIT2, CLOSE)
        machine.done.clear()
        machine.frames = frames
        machine.words = tuple(word for frame in frames[2:] for word in (0, frame))
        machine.run("timer_cancelled", timer)
        unwound.append(machine.done["stacks"])
        *_, alike = decode.EVENT_RECORD.unpack(machine.records[-1])
        reasons.append(decode.REASONS[alike[REASON]])
        if len(unwound) == 2:
            host.check("a TIME_WAIT replaced, as the last was")
    assert unwound == [1, 0, 0, 1, 1]
    assert reasons == ["replaced", "replaced", "reset", "replaced", "reset"]
    assert not machine.entries("tws")


@pytest.mark.parametrize(("flags", "elsewhere"), [((), 4), (("-UHAVE_CMPXCHG",), 6)])
def test_sockets_that_want_one_place(flags: tuple[str, ...], elsewhere: int) -> None:
    """The first has it, the others are found as well, each with its own user."""
    host = Host("-DSLOT_BITS=1", *flags)
    machine = host.machine
    sockets = {pid: host.socket(8000 + pid) for pid in range(1, 7)}
    for sk in sockets.values():
        host.transition(sk, LISTEN, SYN_RECV)
        host.transition(sk, SYN_RECV, ESTABLISHED)
    assert (host.followed(), len(machine.entries("socks"))) == (6, elsewhere)
    for pid, sk in sockets.items():
        host.become(pid)
        machine.run("socket_received", sk)
    openers = []
    for sk in sockets.values():
        host.transition(sk, ESTABLISHED, CLOSE)
        *_, alike = decode.EVENT_RECORD.unpack(machine.records[-1])
        openers.append(decode.ALIKE_RECORD.unpack(alike)[OPENER])
    assert openers == list(sockets)
    assert host.followed() == 0
    machine.done.clear()
    machine.run("socket_received", sockets[1])
    host.check("a use of a socket that is not followed")


@pytest.mark.parametrize("ticks", [0, 1, 20])
def test_ticks_that_pass_before_a_timer_is_moved(host: Host, ticks: int) -> None:
    """What mod_timer() stores was computed before it tells: the move counts once, a later one too."""
    machine = host.machine
    timer = host.mini_socket(80, expires=machine.jiffies + host.time_wait)
    host.transition(host.socket(80), FIN_WAIT2, CLOSE)
    machine.jiffies += 1000
    expires = machine.jiffies + host.time_wait
    machine.jiffies += ticks
    machine.frames = (1, 2, 0x1001, 0x1002, host.starts["mod_timer_pending"] + 8)
    for _ in range(2):
        machine.run("timer_cancelled", timer)
        host.set(timer, timer_list__expires=(8, expires))
        expires += 1000
        machine.jiffies += 1000
    host.set(timer, timer_list__expires=(8, expires))  # within a bucket of the wheel: not told
    machine.run("timer_expired", timer, 0)
    times = decode.EVENT_RECORD.unpack(machine.records[-1])[3]
    assert decode.TIMES_RECORD.unpack(times)[-1] == 3
