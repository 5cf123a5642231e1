"""Persistent objects: `put` stores a value in the federation and says how safe it is, `get` reads it anywhere.

    ref = put(model, alias="model/latest", receipt="region")
    print(ref.receipt)                      # Receipt(level='region', copies=2)
    model = get("model/latest")

A `Ref` may be passed to tasks: they get the value, wherever they run.
"""

from __future__ import annotations

import builtins
import os
from typing import Any, NamedTuple

from shoal import _runtime, _serialize
from shoal._protocol import Code
from shoal.errors import RequestError

LEVELS = ("memory", "process", "local", "region", "parent", "cloud")


class Receipt(NamedTuple):
    """What an acknowledged write proves: its level on the ladder of `LEVELS`, and the number of copies."""

    level: str
    copies: int


class Ref:
    """Names a stored, immutable value. Small; may be pickled, kept, passed to tasks."""

    __slots__ = ("__shoal_object__", "receipt")
    __shoal_stored__ = True

    def __init__(self, object_id: bytes, receipt: Receipt | None = None) -> None:
        self.__shoal_object__ = object_id
        self.receipt = receipt

    @property
    def id(self) -> str:
        """The object's id in hexadecimal, as `shoal objects` shows it."""
        return self.__shoal_object__.hex()

    def get(self, timeout: float | None = None) -> Any:
        """The value."""
        return get(self, timeout=timeout)

    def __reduce__(self) -> Any:
        return Ref, (self.__shoal_object__, self.receipt)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Ref) and other.__shoal_object__ == self.__shoal_object__

    def __hash__(self) -> int:
        return hash(self.__shoal_object__)

    def __repr__(self) -> str:
        return f"<Ref {self.id}{'' if self.receipt is None else f' {self.receipt.level} x{self.receipt.copies}'}>"


class Persistent:
    """Mixin for classes whose instances can be stored: `obj.make_persistent("alias")`.

    A persistent instance is passed to reading tasks by reference. Changing it afterwards does not change what is
    stored; call make_persistent again for that.
    """

    __shoal_stored__ = True
    __shoal_object__: bytes | None = None

    def make_persistent(self, alias: str | None = None, **options: Any) -> Ref:
        """Stores the instance as it is now; options as for `put`."""
        return make_persistent(self, alias, **options)

    def delete_persistent(self) -> None:
        """Removes it from the store. The instance itself stays."""
        if self.__shoal_object__ is not None:
            store.delete(self.__shoal_object__.hex())
            self.__shoal_object__ = None

    def getID(self) -> str | None:
        """The object's id, None while it is not stored."""
        return None if self.__shoal_object__ is None else self.__shoal_object__.hex()

    @classmethod
    def get_by_alias(cls, alias: str) -> Any:
        """The instance stored under `alias`."""
        return get_by_alias(alias)


def put(
    value: Any,
    alias: str | None = None,
    *,
    replicas: int = 2,
    receipt: str | None = None,
    replace: bool = True,
) -> Ref:
    """Stores `value`, and returns once it is as safe as `receipt` says; the result's `receipt` tells how safe it is.

    Without `receipt` that is "region" where there is another agent to hold a copy, else "local". A level that is named
    and cannot be reached is refused with a RequestError that says why. AlreadyExistsError when `alias` is taken and
    `replace` is False.
    """
    if receipt is not None and receipt not in LEVELS:
        raise ValueError(f"receipt={receipt!r}: it is one of {', '.join(LEVELS)}")
    blob = _serialize.dumps(value)
    kind = type(value)
    params = {"type": f"python/{kind.__module__}.{kind.__qualname__}", "replicas": replicas}
    if receipt is not None:
        answer = _put(blob, {**params, "wait_for": receipt})
    else:
        try:
            answer = _put(blob, {**params, "wait_for": "region"})
        except RequestError as refusal:
            if refusal.code != Code.UNAVAILABLE:
                raise
            answer = _put(blob, {**params, "wait_for": "local"})
    reached = Receipt(answer.get("level", ""), answer.get("copies", 1))
    ref = Ref(bytes.fromhex(answer["object"]), reached)
    if alias is not None:
        wanted = receipt or ("region" if LEVELS.index(reached.level) >= LEVELS.index("region") else "local")
        store.set_alias(alias, ref, must_be_new=not replace, receipt=wanted)
    return ref


def _put(blob: _serialize.Blob, params: dict[str, Any]) -> dict[str, Any]:
    agent = _runtime.requester()
    if blob.size <= agent.inline_max:
        params["bytes"] = blob.join()
    else:
        params["shared"] = agent.arena.write(blob)
        params["size"] = blob.size
    return agent.request("store.put", params)


def make_persistent(value: Any, alias: str | None = None, **options: Any) -> Ref:
    """Like `put`; an instance of `Persistent` remembers its id."""
    known = getattr(value, "__shoal_object__", None) if isinstance(value, Persistent) else None
    if known is not None:
        value.__shoal_object__ = None  # the id is no part of the stored state
    try:
        ref = put(value, alias, **options)
    except BaseException:
        if known is not None:
            value.__shoal_object__ = known
        raise
    if isinstance(value, Persistent):
        value.__shoal_object__ = ref.__shoal_object__
    return ref


def get(what: Ref | str, timeout: float | None = None) -> Any:
    """The value of a reference or alias. NotFoundError when there is none; TimeoutError-like RequestError after `timeout` s."""
    agent = _runtime.requester()
    params: dict[str, Any] = {"timeout_ms": round((timeout if timeout is not None else 30) * 1000)}
    if isinstance(what, Ref):
        params["object"] = what.id
    elif isinstance(what, str):
        params["alias"] = what
    else:
        raise TypeError(f"get() takes a Ref or an alias, not {type(what).__name__}")
    answer = agent.request("store.get", params)
    value = _load(agent, answer)
    if isinstance(value, Persistent) and answer.get("object"):
        value.__shoal_object__ = bytes.fromhex(answer["object"])
    return value


def _load(agent: Any, answer: dict[str, Any]) -> Any:
    data = answer.get("value", answer.get("bytes"))
    if data is None:
        name = answer["shared"]
        data = agent.arena.open(name, answer["size"], private=True)
        agent.arena.remove(os.path.basename(name))
    try:
        return _serialize.loads(data)
    except _serialize.DataError:
        return bytes(data)  # stored by something else (the command line, C++): its bytes as they are


def get_by_alias(alias: str) -> Any:
    """The value stored under `alias`."""
    return get(alias)


def delete_alias(alias: str) -> None:
    """Forgets an alias. The object stays until its last name goes."""
    store.delete_alias(alias)


class _Store:
    """The rest of the store's interface: `shoal.store.list()`, `.delete(…)`, …"""

    def set_alias(self, alias: str, ref: Ref, *, must_be_new: bool = False, receipt: str = "local") -> None:
        """Lets `alias` name `ref`."""
        params = {"alias": alias, "object": ref.id, "must_be_new": must_be_new, "wait_for": receipt}
        _runtime.requester().request("store.set_alias", params)

    def get_alias(self, alias: str) -> Ref:
        """What `alias` names. NotFoundError when nothing."""
        return Ref(bytes.fromhex(_runtime.requester().request("store.get_alias", {"alias": alias})["object"]))

    def delete_alias(self, alias: str) -> None:
        """Forgets an alias."""
        _runtime.requester().request("store.delete_alias", {"alias": alias})

    def delete(self, what: Ref | str) -> None:
        """Deletes an object, given by reference or id."""
        _runtime.requester().request("store.delete", {"object": what.id if isinstance(what, Ref) else what})

    def list(self, prefix: str = "") -> builtins.list[dict[str, Any]]:
        """What the store holds, one dict per object (`object`, `alias`, `bytes`, …); those whose alias begins with `prefix`."""
        rows = _runtime.requester().request("store.list", {"prefix": prefix})["objects"]
        return [row for row in rows if str(row.get("alias", "")).startswith(prefix)]

    put = staticmethod(put)
    get = staticmethod(get)
    make_persistent = staticmethod(make_persistent)


store = _Store()
