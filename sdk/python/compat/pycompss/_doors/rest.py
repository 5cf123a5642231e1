"""Talks to agents as COMPSs' own scripts do: XML over HTTP, below /COMPSs."""

from __future__ import annotations

import base64
import urllib.error
import urllib.request
from xml.sax.saxutils import escape, quoteattr


class RestError(Exception):
    """The agent cannot be reached, or it refused; the message is for people."""


def ask(node: str, port: str, method: str, path: str, body: str = "") -> str:
    """One request to the agent at node:port; the text it answers. RestError unless it says 200."""
    url = f"http://{node}:{port}/COMPSs/{path}"
    request = urllib.request.Request(url, body.encode() if body else None, method=method)
    request.add_header("Content-Type", "application/xml")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # an agent is never behind a proxy
    try:
        with opener.open(request, timeout=30) as answer:
            return str(answer.read().decode("utf-8", "replace")).strip()
    except urllib.error.HTTPError as refused:
        text = refused.read().decode("utf-8", "replace").strip()
        raise RestError(f"the agent at {node}:{port} refused ({refused.code}): {_reason(text)}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise RestError(f"no agent answers at {node}:{port} ({reason}); was it started, and with that --rest_port?") from None


def _reason(text: str) -> str:
    import json

    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text


def element(name: str, text: str, **attributes: str) -> str:
    """An XML element with plain text in it."""
    head = "".join(f" {key}={quoteattr(value)}" for key, value in attributes.items())
    return f"<{name}{head}>{escape(text)}</{name}>"


def document(root: str, *inner: str) -> str:
    """An XML document."""
    return f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<{root}>{"".join(inner)}</{root}>'


def parameters(arguments: list[str], python: bool, as_array: bool) -> str:
    """Words of a command line as the parameters of an application: each one, or all as one list."""
    texts = [base64.b64encode(f"#{word}".encode()).decode() if python else word for word in arguments]
    elements = [
        f'<element paramId="{index}"><className>java.lang.String</className>{element("value", text)}</element>'
        for index, text in enumerate(texts)
    ]
    head = "<accessMode>READ</accessMode><stdIOStream>UNSPECIFIED</stdIOStream>"
    if as_array:
        array = f"<componentClassname>java.lang.String</componentClassname><values>{''.join(elements)}</values>"
        elements = [f'<params paramId="0">{head}<type>OBJECT_T</type><array paramId="0">{array}</array></params>']
    else:
        elements = [
            f'<params paramId="{index}">{head}<type>STRING_64_T</type>{item}</params>' for index, item in enumerate(elements)
        ]
    return f"<parameters>{''.join(elements)}</parameters>"
