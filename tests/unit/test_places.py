"""Which of the functions of a stack is the program's own, and what the way there is called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.stacks import START, closing, frame, libc, site
from tracer.model import UNKNOWN_OWNER, Frame, Place, Site
from tracer.places import called, is_plumbing, named, place_of, spot


def place(found: Site) -> Place:
    made = place_of(found)
    assert made is not None
    return made


def test_innermost_function_of_the_program() -> None:
    made = place(closing(1))
    assert made == Place(
        "close", "finish_request", "src/server.c", 88, ("main", "serve", "finish_request", "close")
    )
    assert named(made) == "finish_request  src/server.c:88"
    assert called(made) == "main → serve → finish_request → close"


@pytest.mark.parametrize(
    ("function", "module"),
    [
        ("close", "/usr/bin/static"),
        ("__close_nocancel", "/usr/bin/static"),
        ("__libc_start_main", "/usr/bin/static"),
        ("_start", "/usr/bin/x"),
        ("anything", "/usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("anything", "/lib/ld-musl-x86_64.so.1"),
        ("anything", "/lib/libc-2.31.so"),
        ("anything", "/usr/lib/libstdc++.so.6.0.33"),
        (None, "/lib64/ld-linux-x86-64.so.2"),
        (None, "[vdso]"),
        ("std::unique_ptr<Socket>::~unique_ptr()", "/usr/bin/x"),
        ("core::ptr::drop_in_place", "/usr/bin/x"),
        ("<std::os::fd::owned::OwnedFd as core::ops::drop::Drop>::drop", "/usr/bin/x"),
        ("runtime.goexit", "/usr/bin/x"),
        ("internal/poll.(*FD).Close", "/usr/bin/x"),
        ("syscall.Close", "/usr/bin/x"),
        ("net.(*conn).Close", "/usr/bin/x"),
        ("Ljava/net/Socket;::close", None),
        ("JVM_Close", "/usr/lib/jvm/libjvm.so"),
        (None, None),
    ],
)
def test_plumbing(function: str | None, module: str | None) -> None:
    assert is_plumbing(frame(function, module=module), is_script=False)


@pytest.mark.parametrize(
    ("function", "module"),
    [
        ("close_all", "/usr/bin/x"),
        ("_start_server", "/usr/bin/x"),
        ("Connection::close()", "/usr/bin/x"),
        ("net/http.(*conn).serve", "/usr/bin/x"),
        ("network.Close", "/usr/bin/x"),
        ("pqDropConnection", "/usr/lib/libpq.so.5"),
        ("jit", None),
        (None, "/usr/bin/stripped"),
        ("curl_close", "/usr/lib/libcurl.so.4"),
        ("my_main", "/opt/libc.so.d/x"),
    ],
)
def test_not_plumbing(function: str | None, module: str | None) -> None:
    assert not is_plumbing(frame(function, module=module), is_script=False)


@pytest.mark.parametrize("function", ["_PyEval_EvalFrameDefault", "PyObject_Vectorcall", "sock_close"])
def test_an_interpreter_is_plumbing_below_the_program(function: str) -> None:
    for module in ("/usr/bin/python3.12", "/usr/lib/libpython3.12.so.1.0", "/usr/lib/_socket.cpython-312.so"):
        assert is_plumbing(frame(function, module=module), is_script=True)
    assert not is_plumbing(frame(function, module="/usr/bin/python3.12"), is_script=False)


def test_python() -> None:
    python = "/usr/bin/python3.12"
    made = place(
        site(
            1,
            libc("__close"),
            frame("sock_close", module="/usr/lib/_socket.cpython-312-x86_64-linux-gnu.so"),
            frame("_PyEval_EvalFrameDefault", module=python),
            frame("py::socket._real_close:/usr/lib/python3.12/socket.py", module=None),
            frame("_PyEval_EvalFrameDefault", module=python),
            frame("py::Pool.finish", "/srv/app/pool.py", 31, module=None),
            frame("PyObject_Vectorcall", module=python),
            frame("py::main:/srv/app/main.py", module=None),
            frame("Py_RunMain", module=python),
            *START,
        )
    )
    assert named(made) == "Pool.finish  /srv/app/pool.py:31"
    assert called(made) == "main → Pool.finish → close"
    installed = "/srv/venv/lib/python3.12/site-packages/urllib3/connection.py"
    assert named(place(site(1, frame(f"py::close:{installed}", module=None)))) == (
        "close  …/site-packages/urllib3/connection.py"
    )


def test_scripts_as_the_unwinder_names_them() -> None:
    made = place(
        site(
            1,
            libc("__close"),
            frame("sock_close", module="/usr/bin/python3.12"),
            frame("socket._real_close", "/usr/lib/python3.12/socket.py", module=None),
            frame("_PyEval_EvalFrameDefault", module="/usr/bin/python3.12"),
            frame("finish", "/srv/app/pool.py", module=None),
            frame("<module>", "/srv/app/main.py", module=None),
            frame("_run_code", "<frozen runpy>", module=None),
        )
    )
    assert named(made) == "finish  /srv/app/pool.py"
    assert called(made) == "<module> → finish → close"
    node = "/usr/bin/node"
    made = place(
        site(
            1,
            libc("__close"),
            frame("uv__stream_close", module=node),
            frame("node::HandleWrap::Close(v8::Local<v8::Value>)", module=node),
            frame(None, "node:internal/net", 7, module=None),
            frame("finish", "/srv/server.js", 12, module=None),
            frame(None, "/srv/server.js", 40, module=None),
        )
    )
    assert named(made) == "finish  /srv/server.js:12"
    assert called(made) == "server.js → finish → close"


def test_go() -> None:
    made = place(
        site(
            1,
            frame("internal/runtime/syscall.Syscall6"),
            frame("syscall.Close"),
            frame("internal/poll.(*FD).destroy"),
            frame("net.(*netFD).Close"),
            frame("net.(*conn).Close"),
            frame("main.handle", "/src/main.go", 40),
            frame("main.main", "/src/main.go", 9),
            frame("runtime.main"),
            frame("runtime.goexit"),
        )
    )
    assert named(made) == "main.handle  /src/main.go:40"
    assert called(made) == "main.main → main.handle → net.(*conn).Close"


def test_nothing_but_plumbing_is_its_outermost() -> None:
    made = place(site(1, libc("_exit"), libc("__run_exit_handlers"), libc("exit"), *START))
    assert made.function == "_start"
    assert called(made) == (
        "_start → __libc_start_main_impl → __libc_start_call_main → exit → __run_exit_handlers → _exit"
    )


def test_without_names() -> None:
    made = place(site(1, libc(None, 0x10F2A0), frame(None, offset=0x1F2A), whole=False))
    assert (made.function, spot(made)) == ("orders+0x1f2a", "")
    assert called(made) == "… → orders+0x1f2a → libc.so.6+0x10f2a0"
    bare = Frame(None, None, None, None, None, None)
    assert place(site(1, bare._replace(module="/bin/x"))).function == "x"


def test_the_last_calls_of_a_long_way() -> None:
    frames = [frame(f"f{number}") for number in range(40)]
    made = place(site(1, *frames))
    assert made.path == ("…", *(f"f{number}" for number in range(15, -1, -1)))
    assert called(made, 3) == "… → f2 → f1 → f0"


def test_a_function_that_calls_itself_is_one_call() -> None:
    deep, flat = (place(site(1, libc("close"), *[frame("walk")] * depth, frame("main"))) for depth in (9, 2))
    assert deep == flat
    assert called(deep) == "main → walk → close"


def test_a_line_not_known() -> None:
    assert spot(place(site(1, frame("f", "a.c")))) == "a.c"
    assert spot(place(site(1, frame("f", "/build/" + "very/" * 9 + "deep.c", 7)))) == (
        "…/very/very/very/very/very/very/deep.c:7"
    )


TEXT = st.none() | st.text(max_size=300)
NUMBERS = st.none() | st.integers(0, 1 << 48)


@given(st.lists(st.builds(Frame, TEXT, TEXT, NUMBERS, TEXT, TEXT, NUMBERS, st.booleans()), max_size=40))
def test_any_stack_is_a_small_place(frames: list[Frame]) -> None:
    made = place_of(site(1, *frames))
    assert (made is None) is not any(one.function or one.module or one.file for one in frames)
    if made is not None:
        assert len(made.path) <= 17
        assert all(0 <= len(one) <= 200 for one in (*made.path, made.function, made.file or ""))
        assert called(made).count(" → ") <= 6 or " → " in "".join(made.path)


def test_python_without_its_own_calls_says_how_to_see_them() -> None:
    frames = tuple(
        Frame("/usr/bin/python3.12", None, 1, function, None, None)
        for function in ("sock_close", "_PyEval_EvalFrameDefault", "Py_BytesMain", "_start")
    )
    told = place_of(Site(1, 1, "close", UNKNOWN_OWNER, frames, whole=True))
    assert told is not None
    assert "-X perf" in told.function
    assert (told.file, told.line) == (None, None)


def test_a_stack_that_says_nothing_is_no_place() -> None:
    nothing = Frame(None, None, None, None, None, None)
    assert place_of(Site(1, 1, "close", UNKNOWN_OWNER, (nothing, nothing), whole=False)) is None
    assert place_of(Site(1, 1, "close", UNKNOWN_OWNER, (), whole=False)) is None
