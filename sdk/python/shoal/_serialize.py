"""Python values to blobs and back, and the arena files that hold large ones (docs/client-protocol.md §3 and §6).

Order of preference: scalars as msgpack, bytes as they are, everything else by plain pickle with large buffers out of
band; cloudpickle (or dill, _general.py) only for what plain pickle cannot carry to another process (code and classes of
the main program).
numpy is never imported here: arrays take part through pickle's buffer protocol.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import mmap
import os
import pickle
import struct
import sys
from collections.abc import Callable
from types import FunctionType, GeneratorType
from typing import Any

from shoal import _codec, _general
from shoal._future import Future

MAGIC = b"SHL1"
RAW, PICKLE, MSGPACK = 0, 1, 2
ALIGNMENT = 64
OUT_OF_BAND_MIN = 4096
_BUFFERS_MAX = 65535
_HEADER = struct.Struct("<4sBBHQ")
HEADER_BYTES = _HEADER.size
_SCALARS = frozenset({type(None), bool, int, float, str})
PLAIN_TYPES = _SCALARS | {bytes}  # exact types that never hold anything else

_SMALL_PICKLE = MAGIC + bytes((PICKLE, 0, 0, 0))

# Modules whose functions and classes travel by value: executors may not be able to import them.
by_value_modules: set[str] = {"__main__", "__mp_main__"}


class DataError(ValueError):
    """Bytes that are not a blob."""


class Blob:
    """A value ready to be sent: parts to be written one after the other, `size` bytes in all."""

    __slots__ = ("parts", "size")

    def __init__(self, parts: list, size: int) -> None:
        self.parts = parts
        self.size = size

    def join(self) -> bytes:
        """All parts as one."""
        return self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)


def pickle_header(body_size: int) -> bytes:
    """Header of a pickle blob without buffers."""
    return _HEADER.pack(MAGIC, PICKLE, 0, 0, body_size)


class _NeedsCloudpickle(Exception):
    pass


class Slot:
    """Stands for argument `index` of the attempt inside a call record."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class OutSlot:
    """An OUT parameter inside a call record: made afresh by the executor."""

    __slots__ = ("args", "factory")

    def __init__(self, factory: Any, args: tuple) -> None:
        self.factory = factory
        self.args = args


# Set by the executor while it loads a call record: index of an argument → its value.
resolve_argument: Callable[[int], Any] | None = None


def _argument(index: int) -> Any:
    if resolve_argument is None:
        raise DataError("a call record can only be loaded by an executor")
    return resolve_argument(index)


def _make(factory: Any, args: tuple) -> Any:
    return factory(*args)


def _itself(value: Any) -> Any:
    return value


# What a call record does with objects the session knows (futures, tracked objects, references). Returns the index of
# the access that carries `obj`, or None.
Substitute = Callable[[Any], "int | None"]


# Generators cannot be pickled: what they still have to give is, as an iterator. Held while one value is packed, because a
# second attempt to pickle it finds the generator used up.
Consumed = dict[int, tuple[GeneratorType, list]]


def _override(obj: Any, substitute: Substitute | None, consumed: Consumed) -> Any:
    kind = type(obj)
    if kind is GeneratorType:
        if id(obj) not in consumed:
            consumed[id(obj)] = (obj, list(obj))
        return iter, (consumed[id(obj)][1],)
    if kind is Future:
        index = substitute(obj) if substitute is not None else None
        return (_argument, (index,)) if index is not None else (_itself, (obj.result(),))
    if kind is Slot:
        return _argument, (obj.index,)
    if kind is OutSlot:
        return _make, (obj.factory, obj.args)
    if obj is sys.stdout or obj is sys.stderr:  # whatever the program put there; the task has its own
        return getattr, (sys, "stdout" if obj is sys.stdout else "stderr")
    if substitute is not None:
        index = substitute(obj)
        if index is not None:
            return _argument, (index,)
    return NotImplemented


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, buffer_callback: Any, substitute: Substitute | None, consumed: Consumed) -> None:
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)
        self._substitute = substitute
        self._consumed = consumed

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type) or type(obj) is FunctionType:
            if obj.__module__ in by_value_modules:
                raise _NeedsCloudpickle
            return NotImplemented
        return _override(obj, self._substitute, self._consumed)


def dumps(value: Any, substitute: Substitute | None = None) -> Blob:
    """`value` as a blob. Whatever pickle raises when it cannot be pickled."""
    kind = type(value)
    if kind in _SCALARS:
        try:
            body = _codec.pack_value(value)
            return Blob([_HEADER.pack(MAGIC, MSGPACK, 0, 0, len(body)) + body], HEADER_BYTES + len(body))
        except (OverflowError, UnicodeEncodeError, ValueError):
            pass  # beyond 64 bits, or text that is not UTF-8: pickle carries it
    elif kind is bytes:
        return Blob([_HEADER.pack(MAGIC, RAW, 0, 0, len(value)), value], HEADER_BYTES + len(value))
    return _pickle(value, substitute)


def _pickle(value: Any, substitute: Substitute | None) -> Blob:
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < OUT_OF_BAND_MIN or len(buffers) >= _BUFFERS_MAX:
            return True  # in band
        buffers.append(raw)
        return False

    register_app_modules()
    consumed: Consumed = {}
    file = io.BytesIO()
    try:
        _Pickler(file, keep, substitute, consumed).dump(value)
    except Exception as plain:
        buffers.clear()
        file = io.BytesIO()
        try:
            _general.pickler_class(_override)(file, keep, substitute, consumed).dump(value)
        except Exception as general:
            if isinstance(plain, _NeedsCloudpickle) or isinstance(general, ModuleNotFoundError):
                raise
            raise plain from None
    return _with_buffers(file.getbuffer(), buffers)


def _with_buffers(body: Any, buffers: list[memoryview]) -> Blob:
    sizes = [buffer.nbytes for buffer in buffers]
    head = _HEADER.pack(MAGIC, PICKLE, 0, len(sizes), len(body)) + struct.pack(f"<{len(sizes)}Q", *sizes)
    parts: list[Any] = [head, body]
    size = len(head) + len(body)
    for buffer in buffers:
        padding = -size % ALIGNMENT
        if padding:
            parts.append(bytes(padding))
        parts.append(buffer)
        size += padding + buffer.nbytes
    return Blob(parts, size)


def loads(data: Any) -> Any:
    """The value in the blob `data` (bytes, memoryview or mmap). Views of `data`'s memory may live on in the value."""
    if type(data) is bytes and data[:8] == _SMALL_PICKLE:  # no buffers: the common inline value
        small = data[HEADER_BYTES:]
        if len(small) < int.from_bytes(data[8:16], "little"):
            raise DataError("the value is cut short")
        return pickle.loads(small)
    view = memoryview(data)
    if len(view) < HEADER_BYTES:
        raise DataError(f"{len(view)} bytes are too few for a value")
    magic, codec, _, count, body_size = _HEADER.unpack_from(view)
    if magic != MAGIC:
        raise DataError("these bytes are not a value: they do not begin with SHL1")
    start = HEADER_BYTES + 8 * count
    end = start + body_size
    if end > len(view):
        raise DataError("the value is cut short")
    body = view[start:end]
    if codec == MSGPACK:
        return _codec.unpack_value(body)
    if codec == RAW:
        return bytes(body)
    if codec != PICKLE:
        raise DataError(f"the value has codec {codec}, which this version of Shoal does not know")
    buffers = []
    for size in struct.unpack_from(f"<{count}Q", view, HEADER_BYTES):
        begin = end + (-end % ALIGNMENT)
        end = begin + size
        if end > len(view):
            raise DataError("the value is cut short")
        buffers.append(view[begin:end])
    return pickle.loads(body, buffers=buffers)


_SPARE_BYTES_MIN = 1 << 20  # smaller values are not worth the search


class Arena:
    """The directory of shared-memory files that a client shares with its agent.

    Below it are spare files: memory that values no longer need, for the next ones (docs/client-protocol.md, "Spare files").
    """

    def __init__(self, directory: str, client: int) -> None:
        self.directory = directory
        self._client = client
        self._counter = 0

    def write(self, blob: Blob) -> str:
        """A new file with `blob`; its name. MemoryError when shared memory is full."""
        self._counter += 1
        name = f"{self._client}.{self._counter}"
        path = os.path.join(self.directory, name)
        if blob.size >= _SPARE_BYTES_MIN:
            self._take_spare(path, blob.size)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            self._allocate(descriptor, blob.size)
            _write_all(descriptor, blob.parts)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)
        return name

    def _allocate(self, descriptor: int, size: int) -> None:
        """Makes the file `size` bytes long, with all its pages: a full shared memory is an error here, not a SIGBUS later."""
        os.ftruncate(descriptor, size)
        if os.fstat(descriptor).st_blocks * 512 >= size:
            return  # a spare that was large enough
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            for _, spare in self._spares():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(spare)
            try:
                os.posix_fallocate(descriptor, 0, size)
            except OSError:
                raise MemoryError(
                    f"no room for a value of {size} bytes in shared memory ({self.directory}: {error.strerror}). "
                    "Free some (delete_object, smaller blocks) or give the agent a larger arena"
                ) from None

    def _spares(self) -> list[tuple[int, str]]:
        """Spare files by size."""
        try:
            with os.scandir(os.path.join(self.directory, "spare")) as entries:
                return sorted((int(entry.name.split(".")[0]), entry.path) for entry in entries)
        except FileNotFoundError:
            return []

    def _take_spare(self, path: str, size: int) -> None:
        """Renames the smallest spare that is large enough, else the largest, to `path`; nothing when there is none."""
        spares = self._spares()
        if not spares:
            return
        _, best = next((spare for spare in spares if spare[0] >= size), spares[-1])
        with contextlib.suppress(FileNotFoundError):  # somebody else was faster
            os.rename(best, path)

    def open(self, name: str, size: int, *, private: bool) -> mmap.mmap:
        """Maps a file: read-only, or `private` (copy-on-write; writes stay in this process)."""
        return map_file(os.path.join(self.directory, name), size, private=private)

    def remove(self, name: str) -> None:
        """Unlinks a file that belongs to this client. Mappings stay valid."""
        os.unlink(os.path.join(self.directory, name))


def map_file(path: str, size: int, *, private: bool) -> mmap.mmap:
    """A mapping of the first `size` bytes of `path`, which nobody re-uses while the mapping lives."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # held by the mapping, too: it is of the open file
        facts = os.fstat(descriptor)
        if not os.path.samestat(facts, os.stat(path)):
            raise DataError(f"{path} was dropped while it was opened")
        if facts.st_size < size:
            raise DataError(f"{path} is shorter than the {size} bytes it should have")
        return mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY if private else mmap.ACCESS_READ)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, parts: list) -> None:
    for part in parts:
        view = memoryview(part).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]


def store_value(value: Any, arena: Arena, inline_max: int) -> list:
    """`value` as a client::Value, through a file of the arena when it is large."""
    return store_blob(dumps(value), arena, inline_max)


def store_blob(blob: Blob, arena: Arena, inline_max: int) -> list:
    """`blob` as a client::Value."""
    if blob.size <= inline_max:
        return [1, [blob.join()]]
    return [2, [arena.write(blob), blob.size]]


def load_value(value: list, arena: Arena, *, private: bool) -> Any:
    """The Python value of a client::Value; a path for files, None for nothing."""
    index, fields = value
    if index == 1:
        return loads(fields[0])
    if index == 2:
        return loads(arena.open(fields[0], fields[1], private=private))
    if index == 3:
        return fields[0]
    if index == 0:
        return None
    raise DataError(f"the agent sent a value of kind {index} where a local value was expected")


# ---- code that travels by value ----
_modules_seen = 0
_INSTALLED = ("site-packages", "dist-packages")


# False in executors: there, a module beside the program was imported by name, and its classes must keep that name.
app_modules_travel = True


def register_app_modules() -> None:
    """Makes cloudpickle carry the modules that lie beside the main program by value. Cheap when nothing is new."""
    global _modules_seen
    if len(sys.modules) == _modules_seen or not app_modules_travel:
        return
    directories = _app_directories()
    fresh = [(n, m) for n, m in list(sys.modules.items()) if n not in by_value_modules and _is_of_app(n, m, directories)]
    _modules_seen = len(sys.modules)
    if not fresh:
        return
    import cloudpickle

    for name, module in fresh:
        try:
            cloudpickle.register_pickle_by_value(module)
        except ValueError:
            continue  # not in sys.modules under its own name
        by_value_modules.add(name)


def _app_directories() -> list[str]:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    candidates = [os.path.dirname(os.path.realpath(main))] if main else []
    if sys.path:
        candidates.append(os.path.realpath(sys.path[0] or os.getcwd()))
    system = {os.path.realpath(sys.prefix), os.path.realpath(sys.base_prefix), "/"}
    library = os.path.realpath(os.path.dirname(os.__file__))
    return [
        d for d in candidates if d not in system and not d.startswith(library) and not any(part in d for part in _INSTALLED)
    ]


def _is_of_app(name: str, module: Any, directories: list[str]) -> bool:
    if name.split(".")[0] in ("shoal", "pycompss"):
        return False
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or any(part in file for part in _INSTALLED):
        return False
    path = os.path.realpath(file)
    return any(path.startswith(directory + os.sep) for directory in directories)
