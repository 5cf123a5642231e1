"""Mirror of protocol/wire/client.h: numbers and field orders of the messages between a client and its agent."""

from __future__ import annotations

from enum import IntEnum

PROTOCOL_VERSION = 1
INLINE_MAX = 16 << 10
FRAME_MAX = 64 << 20
WAIT_DATA_MAX = 1024  # data of one Wait, so that its Values fits a frame


class Kind(IntEnum):
    """First item of a frame."""

    HELLO = 1
    REGISTER = 2
    SUBMIT = 3
    PUT_DATA = 4
    WAIT = 5
    BARRIER = 6
    RELEASE = 7
    REQUEST = 8
    OPEN_GROUP = 9
    CLOSE_GROUP = 10
    CANCEL_GROUP = 11
    WELCOME = 64
    REPLY = 65
    VALUES = 66
    EVENT = 67
    FUNCTION = 96
    RUN = 97
    CANCEL = 98
    DONE = 128
    BLOCKED = 129


class Direction(IntEnum):
    """How a task uses a parameter."""

    IN = 0
    OUT = 1
    INOUT = 2
    CONCURRENT = 3
    COMMUTATIVE = 4
    IN_DELETE = 5


WRITING = frozenset({Direction.OUT, Direction.INOUT, Direction.CONCURRENT, Direction.COMMUTATIVE})


class AccessKind(IntEnum):
    """What an access names."""

    LITERAL = 0
    DATUM = 1
    FILE = 2
    DIRECTORY = 3
    STREAM = 4
    COLLECTION = 5
    OBJECT = 6
    STDOUT = 7
    STDERR = 8
    STDIN = 9


PATH_KINDS = frozenset({AccessKind.FILE, AccessKind.DIRECTORY, AccessKind.STDOUT, AccessKind.STDERR, AccessKind.STDIN})


class ValueIndex(IntEnum):
    """Alternatives of client::Value."""

    NOTHING = 0
    INLINE = 1
    SHARED = 2
    FILE_PATH = 3
    OBJECT_REF = 4


class OnFailure(IntEnum):
    """What happens to the app when a task fails for good."""

    RETRY = 0
    FAIL = 1
    IGNORE = 2
    CANCEL_SUCCESSORS = 3


class Outcome(IntEnum):
    """How an attempt ended."""

    DONE = 0
    EXCEPTION = 1
    GROUP_EXCEPTION = 2
    TIMED_OUT = 3
    CANCELLED = 4
    EXECUTOR_LOST = 5
    INPUT_MISSING = 6
    RETURNED = 7
    NOT_STARTED = 8


class Code(IntEnum):
    """shoal::Code; 0 is success."""

    OK = 0
    INVALID = 1
    NOT_FOUND = 2
    EXISTS = 3
    STALE = 4
    EXHAUSTED = 5
    UNAVAILABLE = 6
    DENIED = 7
    CORRUPT = 8
    TIMEOUT = 9
    CANCELLED = 10
    UNSUPPORTED = 11
    FAILED = 12


NOTHING: list = [ValueIndex.NOTHING.value, [0]]

# Names with a meaning among the accesses of a call.
RECORD_NAME = "*"  # the call record: all untracked arguments
RESULT_PREFIX = "$"  # results, "$0", "$1", …
