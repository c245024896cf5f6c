"""The part of WASI (preview 1) that a handler gets: its input, its output, its end. There are no files, no network, no environment, no arguments; clocks stand
still at zero, and random numbers are the same in every call, so that a handler sees nothing but its step.
"""

from __future__ import annotations

import random
from typing import Any, Callable, Dict, List, Optional, Tuple

import wasmtime

__all__ = ["IO", "Guest", "define", "signature"]

MODULE = "wasi_snapshot_preview1"
OK, BADF, INVAL, FBIG, NOSYS, SPIPE = 0, 8, 28, 22, 52, 70
_I32, _I64 = wasmtime.ValType.i32, wasmtime.ValType.i64


class Exit(Exception):
    """The module has ended itself."""


class IO:
    """Input and output of one call."""

    def __init__(self, data: bytes, max_output: int, max_stderr: int) -> None:
        self._data = data
        self._at = 0
        self._out = bytearray()
        self._err = bytearray()
        self._max_output, self._max_stderr = max_output, max_stderr
        self.overflow = False
        self.exit_status: Optional[int] = None
        self.random = random.Random(0)

    def output(self) -> bytes:
        """What was written to stdout."""
        return bytes(self._out)

    def stderr(self) -> bytes:
        """What was written to stderr, as much as is kept."""
        return bytes(self._err)

    def read(self, n: int) -> bytes:
        """The next bytes of the input."""
        taken = self._data[self._at : self._at + n]
        self._at += len(taken)
        return taken

    def room(self, fd: int) -> int:
        """How much of what is written is looked at: a byte more than is kept, to see that it is too much."""
        return max(self._max_stderr - len(self._err) if fd == 2 else self._max_output - len(self._out) + 1, 0)

    def write(self, fd: int, data: bytes) -> int:
        """An error number."""
        if fd == 2:
            self._err += data[: max(self._max_stderr - len(self._err), 0)]
            return OK
        if self.overflow or len(self._out) + len(data) > self._max_output:
            self.overflow = True  # what is written behind this is not kept either
            return FBIG
        self._out += data
        return OK


class Guest:
    """The memory of the module that calls."""

    def __init__(self, caller: Any) -> None:
        self._caller = caller
        self._memory = caller["memory"]

    def read(self, at: int, n: int, most: int = 1 << 32) -> bytes:
        """So many bytes, of which at most ``most`` are taken: nothing ends a copy, and one call may name the same memory a thousand times."""
        at &= 0xFFFFFFFF
        if n < 0 or at + n > self._memory.data_len(self._caller):
            raise Exit("an address outside of the module's memory")
        return bytes(self._memory.read(self._caller, at, at + min(n, most)))

    def write(self, at: int, data: bytes) -> None:
        at &= 0xFFFFFFFF
        if at + len(data) > self._memory.data_len(self._caller):
            raise Exit("an address outside of the module's memory")
        self._memory.write(self._caller, data, at)

    def u32(self, at: int, value: int) -> None:
        self.write(at, value.to_bytes(4, "little"))

    def u64(self, at: int, value: int) -> None:
        self.write(at, value.to_bytes(8, "little"))

    def vectors(self, at: int, n: int) -> List[Tuple[int, int]]:
        if not 0 <= n <= 1024:
            raise Exit("too many buffers in one call")
        raw = self.read(at, 8 * n)
        return [(int.from_bytes(raw[i : i + 4], "little"), int.from_bytes(raw[i + 4 : i + 8], "little")) for i in range(0, 8 * n, 8)]


def _fd_read(io: IO, guest: Guest, fd: int, vectors: int, n: int, ret: int) -> int:
    if fd != 0:
        return BADF
    total = 0
    for at, size in guest.vectors(vectors, n):
        data = io.read(size)
        guest.write(at, data)
        total += len(data)
        if len(data) < size:
            break
    guest.u32(ret, total)
    return OK


def _fd_write(io: IO, guest: Guest, fd: int, vectors: int, n: int, ret: int) -> int:
    if fd not in (1, 2):
        return BADF
    total = 0
    for at, size in guest.vectors(vectors, n):
        error = io.write(fd, guest.read(at, size, io.room(fd)))
        if error:
            return error
        total += size
    guest.u32(ret, min(total, 0xFFFFFFFF))
    return OK


def _fdstat(io: IO, guest: Guest, fd: int, ret: int) -> int:
    if fd not in (0, 1, 2):
        return BADF
    guest.write(ret, b"\x02" + bytes(23))  # a character device without rights to seek
    return OK


def _sizes(io: IO, guest: Guest, count: int, size: int) -> int:
    guest.u32(count, 0)
    guest.u32(size, 0)
    return OK


def _clock(io: IO, guest: Guest, clock: int, precision: int, ret: int) -> int:
    guest.u64(ret, 0)
    return OK


def _clock_res(io: IO, guest: Guest, clock: int, ret: int) -> int:
    guest.u64(ret, 1)
    return OK


def _random(io: IO, guest: Guest, at: int, n: int) -> int:
    if not 0 <= n <= 1 << 16:
        return INVAL
    guest.write(at, bytes(io.random.getrandbits(8) for _ in range(n)))
    return OK


def _exit(io: IO, guest: Guest, status: int) -> None:
    io.exit_status = status & 0xFFFFFFFF
    raise Exit("proc_exit")


def _always(error: int) -> Callable[..., int]:
    return lambda io, guest, *args: error


Function = Tuple[List[Any], Callable[..., Optional[int]]]


def _table() -> Dict[str, Function]:
    i, l = _I32(), _I64()
    done, refused = _always(OK), _always(BADF)
    table: Dict[str, Function] = {
        "fd_read": ([i, i, i, i], _fd_read),
        "fd_write": ([i, i, i, i], _fd_write),
        "fd_fdstat_get": ([i, i], _fdstat),
        "environ_sizes_get": ([i, i], _sizes),
        "environ_get": ([i, i], done),
        "args_sizes_get": ([i, i], _sizes),
        "args_get": ([i, i], done),
        "clock_time_get": ([i, l, i], _clock),
        "clock_res_get": ([i, i], _clock_res),
        "random_get": ([i, i], _random),
        "proc_exit": ([i], _exit),
        "sched_yield": ([], done),
        "fd_close": ([i], done),
        "fd_seek": ([i, l, i, i], _always(SPIPE)),
        "fd_tell": ([i, i], _always(SPIPE)),
        "proc_raise": ([i], _always(NOSYS)),
        "poll_oneoff": ([i, i, i, i], _always(NOSYS)),
    }
    closed = {  # what would need a file, a directory or a socket
        "fd_advise": [i, l, l, i], "fd_allocate": [i, l, l], "fd_datasync": [i], "fd_fdstat_set_flags": [i, i], "fd_fdstat_set_rights": [i, l, l],
        "fd_filestat_get": [i, i], "fd_filestat_set_size": [i, l], "fd_filestat_set_times": [i, l, l, i], "fd_pread": [i, i, i, l, i],
        "fd_prestat_get": [i, i], "fd_prestat_dir_name": [i, i, i], "fd_pwrite": [i, i, i, l, i], "fd_readdir": [i, i, i, l, i], "fd_renumber": [i, i],
        "fd_sync": [i], "path_create_directory": [i, i, i], "path_filestat_get": [i, i, i, i, i], "path_filestat_set_times": [i, i, i, i, l, l, i],
        "path_link": [i, i, i, i, i, i, i], "path_open": [i, i, i, i, i, l, l, i, i], "path_readlink": [i, i, i, i, i, i], "path_remove_directory": [i, i, i],
        "path_rename": [i, i, i, i, i, i], "path_symlink": [i, i, i, i, i], "path_unlink_file": [i, i, i], "sock_accept": [i, i, i],
        "sock_recv": [i, i, i, i, i, i], "sock_send": [i, i, i, i, i], "sock_shutdown": [i, i],
    }  # fmt: skip
    table.update({name: (params, refused) for name, params in closed.items()})
    return table


_TABLE = _table()


def _type(name: str) -> wasmtime.FuncType:
    return wasmtime.FuncType(_TABLE[name][0], [] if name == "proc_exit" else [_I32()])


def signature(module: str, name: str) -> Optional[wasmtime.FuncType]:
    """Of what a module may import; None if it may not."""
    return _type(name) if module == MODULE and name in _TABLE else None


def define(linker: wasmtime.Linker, current: Callable[[], IO]) -> None:
    """Put everything into a linker; ``current`` gives the call that runs."""

    def wrapped(function: Callable[..., Optional[int]]) -> Callable[..., Any]:
        return lambda caller, *args: function(current(), Guest(caller), *args)

    for name, (_, function) in _TABLE.items():
        linker.define_func(MODULE, name, _type(name), wrapped(function), access_caller=True)
