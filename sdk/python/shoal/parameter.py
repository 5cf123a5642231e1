"""How a task uses its parameters: the names given to `@task(name=…)`.

`@task(a=INOUT, f=FILE_IN, blocks=COLLECTION_IN)`, or as a dict for details: `{Type: COLLECTION_IN, Depth: 2}`. A parameter
that is not mentioned is an object that is only read.
"""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Any

from shoal._protocol import AccessKind
from shoal._protocol import Direction as _Direction
from shoal.errors import nearest


class TYPE(Enum):
    """What a parameter is. The names of plain values are other names of OBJECT: values know their own type."""

    OBJECT = "object"
    FILE = "file"
    DIRECTORY = "directory"
    COLLECTION = "collection"
    COLLECTION_FILE = "collection_file"
    DICTIONARY = "dictionary"
    STREAM = "stream"

    BOOLEAN = CHAR = BYTE = SHORT = INT = LONG = FLOAT = DOUBLE = STRING = STRING_64 = "object"  # noqa: PIE796
    PSCO = EXTERNAL_PSCO = BINDING_OBJECT = NULL = ENUM = "object"  # noqa: PIE796
    EXTERNAL_STREAM = "stream"  # noqa: PIE796
    DICT_COLLECTION = "dictionary"  # noqa: PIE796


class DIRECTION(IntEnum):
    """How a parameter is used."""

    IN = 0
    OUT = 1
    INOUT = 2
    CONCURRENT = 3
    COMMUTATIVE = 4
    IN_DELETE = 5


class IOSTREAM(Enum):
    """The standard stream of a command that a file parameter stands for."""

    STDIN = "stdin"
    STDOUT = "stdout"
    STDERR = "stderr"
    UNSPECIFIED = ""


class PREFIX(Enum):
    """Marker for a parameter without prefix."""

    PREFIX = ""


# Keys of the dict form.
Type = "type"
Direction = "direction"
StdIOStream = "stdiostream"
Prefix = "prefix"
Depth = "depth"
Weight = "weight"
Keep_rename = "keep_rename"
Cache = "cache"

# Layout of native MPI parameters.
block_count = "block_count"
block_length = "block_length"
stride = "stride"

STDIN = IOSTREAM.STDIN
STDOUT = IOSTREAM.STDOUT
STDERR = IOSTREAM.STDERR


class Parameter:
    """A direction with everything else that can be said about a parameter. Immutable."""

    __slots__ = ("cache", "content", "depth", "direction", "keep_rename", "prefix", "stream", "weight")

    def __init__(
        self,
        content: TYPE = TYPE.OBJECT,
        direction: int = DIRECTION.IN,
        *,
        stream: IOSTREAM = IOSTREAM.UNSPECIFIED,
        prefix: str = "",
        depth: int = 0,
        keep_rename: bool = False,
        weight: float = 1.0,
        cache: bool = False,
    ) -> None:
        self.content = content
        self.direction = _Direction(int(direction))
        self.stream = stream
        self.prefix = prefix
        self.depth = depth  # 1: the items of the collection are its elements; 0: what lies in lists at any depth is
        self.keep_rename = keep_rename
        self.weight = weight  # a hint about locality, like `cache`: neither changes what a task computes
        self.cache = cache

    @property
    def is_plain_in(self) -> bool:
        """True for what needs no declaration: an object that is only read."""
        return self.content is TYPE.OBJECT and self.direction is _Direction.IN

    @property
    def access_kind(self) -> AccessKind:
        """The kind of access for a parameter that names a path."""
        if self.stream is IOSTREAM.STDIN:
            return AccessKind.STDIN
        if self.stream is IOSTREAM.STDOUT:
            return AccessKind.STDOUT
        if self.stream is IOSTREAM.STDERR:
            return AccessKind.STDERR
        return AccessKind.DIRECTORY if self.content is TYPE.DIRECTORY else AccessKind.FILE

    def __repr__(self) -> str:
        return f"<{self.content.name} {self.direction.name}>"

    def __reduce__(self) -> Any:
        rest = (self.stream, self.prefix, self.depth, self.keep_rename, self.weight, self.cache)
        return _rebuild, (self.content, int(self.direction), *rest)


def _rebuild(content: TYPE, direction: int, *rest: Any) -> Parameter:
    names = ("stream", "prefix", "depth", "keep_rename", "weight", "cache")
    return Parameter(content, direction, **dict(zip(names, rest)))


IN = Parameter()
OUT = Parameter(direction=DIRECTION.OUT)
INOUT = Parameter(direction=DIRECTION.INOUT)
CONCURRENT = Parameter(direction=DIRECTION.CONCURRENT)
COMMUTATIVE = Parameter(direction=DIRECTION.COMMUTATIVE)
IN_DELETE = Parameter(direction=DIRECTION.IN_DELETE)

FILE = FILE_IN = Parameter(TYPE.FILE)
FILE_OUT = Parameter(TYPE.FILE, DIRECTION.OUT)
FILE_INOUT = Parameter(TYPE.FILE, DIRECTION.INOUT)
FILE_CONCURRENT = Parameter(TYPE.FILE, DIRECTION.CONCURRENT)
FILE_COMMUTATIVE = Parameter(TYPE.FILE, DIRECTION.COMMUTATIVE)

FILE_STDIN = FILE_IN_STDIN = Parameter(TYPE.FILE, DIRECTION.IN, stream=STDIN)
FILE_STDOUT = FILE_OUT_STDOUT = Parameter(TYPE.FILE, DIRECTION.OUT, stream=STDOUT)
FILE_STDERR = FILE_OUT_STDERR = Parameter(TYPE.FILE, DIRECTION.OUT, stream=STDERR)
FILE_OUT_STDIN = Parameter(TYPE.FILE, DIRECTION.OUT, stream=STDIN)
FILE_INOUT_STDIN = Parameter(TYPE.FILE, DIRECTION.INOUT, stream=STDIN)
FILE_CONCURRENT_STDIN = Parameter(TYPE.FILE, DIRECTION.CONCURRENT, stream=STDIN)
FILE_COMMUTATIVE_STDIN = Parameter(TYPE.FILE, DIRECTION.COMMUTATIVE, stream=STDIN)
FILE_IN_STDOUT = Parameter(TYPE.FILE, DIRECTION.IN, stream=STDOUT)
FILE_INOUT_STDOUT = Parameter(TYPE.FILE, DIRECTION.INOUT, stream=STDOUT)
FILE_CONCURRENT_STDOUT = Parameter(TYPE.FILE, DIRECTION.CONCURRENT, stream=STDOUT)
FILE_COMMUTATIVE_STDOUT = Parameter(TYPE.FILE, DIRECTION.COMMUTATIVE, stream=STDOUT)
FILE_IN_STDERR = Parameter(TYPE.FILE, DIRECTION.IN, stream=STDERR)
FILE_INOUT_STDERR = Parameter(TYPE.FILE, DIRECTION.INOUT, stream=STDERR)
FILE_CONCURRENT_STDERR = Parameter(TYPE.FILE, DIRECTION.CONCURRENT, stream=STDERR)
FILE_COMMUTATIVE_STDERR = Parameter(TYPE.FILE, DIRECTION.COMMUTATIVE, stream=STDERR)

DIRECTORY = DIRECTORY_IN = Parameter(TYPE.DIRECTORY)
DIRECTORY_OUT = Parameter(TYPE.DIRECTORY, DIRECTION.OUT)
DIRECTORY_INOUT = Parameter(TYPE.DIRECTORY, DIRECTION.INOUT)

COLLECTION = COLLECTION_IN = Parameter(TYPE.COLLECTION)
COLLECTION_OUT = Parameter(TYPE.COLLECTION, DIRECTION.OUT)
COLLECTION_INOUT = Parameter(TYPE.COLLECTION, DIRECTION.INOUT)
COLLECTION_IN_DELETE = Parameter(TYPE.COLLECTION, DIRECTION.IN_DELETE)
COLLECTION_FILE = COLLECTION_FILE_IN = Parameter(TYPE.COLLECTION_FILE)
COLLECTION_FILE_OUT = Parameter(TYPE.COLLECTION_FILE, DIRECTION.OUT)
COLLECTION_FILE_INOUT = Parameter(TYPE.COLLECTION_FILE, DIRECTION.INOUT)

DICTIONARY = DICTIONARY_IN = Parameter(TYPE.DICTIONARY)
DICTIONARY_OUT = Parameter(TYPE.DICTIONARY, DIRECTION.OUT)
DICTIONARY_INOUT = Parameter(TYPE.DICTIONARY, DIRECTION.INOUT)
DICTIONARY_IN_DELETE = Parameter(TYPE.DICTIONARY, DIRECTION.IN_DELETE)

# The names of dictionaries in older programs.
DICT_COLLECTION = DICT_COLLECTION_IN = DICTIONARY_IN
DICT_COLLECTION_OUT = DICTIONARY_OUT
DICT_COLLECTION_INOUT = DICTIONARY_INOUT
DICT_COLLECTION_IN_DELETE = DICTIONARY_IN_DELETE

STREAM_IN = Parameter(TYPE.STREAM)
STREAM_OUT = Parameter(TYPE.STREAM, DIRECTION.OUT)


class TRANSFORMATION(IntEnum):
    """Kinds of @data_transformation."""

    OBJECT_TO_FILE = 0
    FILE_TO_OBJECT = 1
    FILE_TO_COLLECTION = 2
    COLLECTION_TO_OBJECT = 3
    COLLECTION_TO_FILE = 4
    OBJECT_TO_DIRECTORY = 5
    DIRECTORY_TO_OBJECT = 6
    COLLECTION_TO_DIRECTORY = 7


OBJECT_TO_FILE = TRANSFORMATION.OBJECT_TO_FILE
FILE_TO_OBJECT = TRANSFORMATION.FILE_TO_OBJECT
FILE_TO_COLLECTION = TRANSFORMATION.FILE_TO_COLLECTION
COLLECTION_TO_OBJECT = TRANSFORMATION.COLLECTION_TO_OBJECT
COLLECTION_TO_FILE = TRANSFORMATION.COLLECTION_TO_FILE
OBJECT_TO_DIRECTORY = TRANSFORMATION.OBJECT_TO_DIRECTORY
DIRECTORY_TO_OBJECT = TRANSFORMATION.DIRECTORY_TO_OBJECT
COLLECTION_TO_DIRECTORY = TRANSFORMATION.COLLECTION_TO_DIRECTORY

_KEYS = {Type, Direction, StdIOStream, Prefix, Depth, Weight, Keep_rename, Cache}


def as_parameter(given: Any, function: str, name: str) -> Parameter:
    """What the program wrote for a parameter as a Parameter. TypeError for anything that is not a direction."""
    if isinstance(given, Parameter):
        return given
    if isinstance(given, DIRECTION):
        return Parameter(direction=given)
    if isinstance(given, TYPE):
        return Parameter(given)
    where = f"@task of {function}: {name}"
    if not isinstance(given, dict):
        raise TypeError(
            f"{where}={given!r} is not a direction{nearest(given, DIRECTION_NAMES) if isinstance(given, str) else ''}; "
            f"it is one of {', '.join(DIRECTION_NAMES)}, a dict {{Type: …, Depth: …}}, or of TYPE or DIRECTION"
        )
    for key in given:
        if key not in _KEYS:
            raise TypeError(f"{where} has the unknown key {key!r}{nearest(key, _KEYS)}; known: {', '.join(sorted(_KEYS))}")
    base = as_parameter(given.get(Type, IN), function, name)
    return _detailed(given, base, where)


_DIRECTIONS = frozenset(int(direction) for direction in _Direction)


def _detailed(given: dict, base: Parameter, where: str) -> Parameter:
    direction = given.get(Direction, base.direction)
    stream = given.get(StdIOStream, base.stream)
    depth = given.get(Depth, base.depth)
    prefix = given.get(Prefix, base.prefix)
    if isinstance(direction, Parameter):
        direction = direction.direction
    if not isinstance(direction, int) or direction not in _DIRECTIONS:
        raise TypeError(f"{where}: Direction must be IN, OUT, INOUT, CONCURRENT, COMMUTATIVE or IN_DELETE, not {direction!r}")
    if not isinstance(stream, IOSTREAM):
        raise TypeError(f"{where}: StdIOStream must be STDIN, STDOUT or STDERR, not {stream!r}")
    if Depth in given and (not isinstance(depth, int) or depth < 1):
        raise TypeError(f"{where}: Depth must be a positive integer, not {depth!r}")
    try:
        weight = float(given.get(Weight, base.weight))
    except (TypeError, ValueError):
        raise TypeError(f"{where}: Weight must be a number, not {given[Weight]!r}") from None
    return Parameter(
        base.content,
        direction,
        stream=stream,
        prefix=prefix if isinstance(prefix, str) else "",
        depth=depth,
        keep_rename=bool(given.get(Keep_rename, base.keep_rename)),
        weight=weight,
        cache=bool(given.get(Cache, base.cache)),
    )


DIRECTION_NAMES = tuple(sorted(n for n, v in globals().items() if isinstance(v, Parameter)))

__all__ = [
    *DIRECTION_NAMES,
    "DIRECTION", "IOSTREAM", "PREFIX", "STDERR", "STDIN", "STDOUT", "TYPE",
    "Cache", "Depth", "Direction", "Keep_rename", "Parameter", "Prefix", "StdIOStream", "Type", "Weight",
    "COLLECTION_TO_DIRECTORY", "COLLECTION_TO_FILE", "COLLECTION_TO_OBJECT", "DIRECTORY_TO_OBJECT", "FILE_TO_COLLECTION",
    "FILE_TO_OBJECT", "OBJECT_TO_DIRECTORY", "OBJECT_TO_FILE", "block_count", "block_length", "stride",
]  # fmt: skip
