"""Goal: scripts written for COMPSs agents drive ours over REST, and what is no such request does no harm.
Method: real agents, plain HTTP with the XML that COMPSs' scripts send, the same in JSON; a small HTTP server that waits for
the call-back; everything wrong that can be sent, after which the agent still works."""

from __future__ import annotations

import base64
import http.client
import http.server
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Agent, Cluster, wait_until

SIMPLE = """
import os, sys, time
from pycompss.api.task import task
from pycompss.api.api import compss_wait_on, compss_barrier

@task(returns=1)
def where(i):
    time.sleep(0.2)
    return os.environ.get("AGENT")

def main(*args):
    print("called with", args, flush=True)
    return list(args)

def spread(count):
    places = compss_wait_on([where(i) for i in range(count)])
    print("places", sorted(set(places)), flush=True)

def fails(path):
    with open(path, "a") as file:
        file.write("x")
    raise ValueError("on purpose")

def waits(path):
    print("result of", compss_wait_on(where(0)), flush=True)
    while not os.path.exists(path):
        time.sleep(0.02)
"""


class Rest:
    """One agent, as curl sees it."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        host, _, port = agent.json("status")["http"].removeprefix("http://").rpartition(":")
        self.host, self.port = host, int(port)

    def ask(
        self, method: str, path: str, body: str | bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, "/COMPSs" + path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def put(self, path: str, body: str | dict) -> tuple[int, str]:
        kind, text = ("json", json.dumps(body)) if isinstance(body, dict) else ("xml", body)
        return self.ask("PUT", path, text, {"Content-Type": f"application/{kind}"})

    def resources(self) -> dict[str, dict]:
        status, text = self.ask("GET", "/resources")
        assert status == 200
        answer = json.loads(text)
        assert answer["time"] > 1.6e12
        return {row["name"]: row for row in answer["resources"]}

    def start(self, body: str | dict) -> str:
        status, text = self.put("/startApplication", body)
        assert status == 200, text
        return text

    def state(self, app: str) -> str:
        rows = [row for row in self.agent.json("apps")["apps"] if str(int(row["app"][:13], 16)) == app]
        return rows[0]["state"] if rows else ""

    def ended(self, app: str, state: str = "done") -> str:
        """The output of the application, once it has ended that way."""
        wait_until(lambda: self.state(app) not in ("", "running"), 30, "the application has ended")
        done = self.agent.shoal("logs", app)
        assert self.state(app) == state, done
        return done.stdout + done.stderr


def xml(function: str, *values: tuple[str, str], more: str = "", module: str = "simple", lang: str = "PYTHON") -> str:
    """startApplication as COMPSs' scripts write it."""
    params = "".join(
        f'<params paramId="{i}"><accessMode>READ</accessMode><paramName></paramName><stdIOStream>UNSPECIFIED</stdIOStream>'
        f'<type>{kind}</type><element paramId="{i}"><className>java.lang.String</className>'
        f'<value xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="xs:string">{value}</value></element></params>'
        for i, (kind, value) in enumerate(values)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<startApplication>'
        f"<lang>{lang}</lang><className>{module}</className><hasResult>false</hasResult><methodName>{function}</methodName>"
        f"{more}<parameters>{params}</parameters></startApplication>"
    )


def node(root: str, name: str, inner: str = "") -> str:
    return f"<{root}><workerName>{name}</workerName>{inner}</{root}>"


@pytest.fixture
def two(cluster: Cluster, tmp_path: Path) -> tuple[Rest, Rest]:
    """Two agents of one region that find the module `simple`; tasks see which one they run on."""
    (tmp_path / "simple.py").write_text(SIMPLE)
    first = cluster.found("one", start=False, computing_units=1)
    first.variables = {"PYTHONPATH": str(tmp_path), "AGENT": "one"}
    first.start()
    second = cluster.join("two", first, start=False, computing_units=2)
    second.variables = {"PYTHONPATH": str(tmp_path), "AGENT": "two"}
    second.start()
    wait_until(lambda: len(first.json("agents")["agents"]) == 2, 15, "they know each other")
    return Rest(first), Rest(second)


def test_looking(two: tuple[Rest, Rest]) -> None:
    one, _ = two
    assert one.ask("GET", "/test") == (200, "")
    assert one.ask("GET", "/test/") == (200, "")
    assert one.agent.log_text().count("test invoked\n") == 2
    rows = wait_until(lambda: (r := one.resources()) and len(r) == 2 and r, 10, "both are listed")
    assert next(iter(rows)) == "one"
    assert rows["one"]["adaptor"] == "es.bsc.compss.types.COMPSsMaster"
    assert rows["two"]["adaptor"] == "es.bsc.compss.agent.comm.CommAgentWorker"
    description = rows["two"]["description"]
    assert set(description) == {
        "processors", "memory_size", "memory_type", "storage_size", "storage_type", "storage_bandwidth"
    }  # fmt: skip
    assert [(p["name"], p["units"]) for p in description["processors"]] == [("MainProcessor", 2)]
    assert one.ask("GET", "/printResources")[0] == 200
    wait_until(lambda: "AGENT" in one.agent.log_text() and "\ntwo " in one.agent.log_text(), 10, "the table is printed")


def test_applications(two: tuple[Rest, Rest], tmp_path: Path) -> None:
    one, _ = two
    encoded = base64.b64encode("#a 'b' é".encode()).decode()
    app = one.start(xml("main", ("STRING_64_T", encoded), ("INT_T", "3"), ("BOOLEAN_T", "true"), ("STRING_T", "x&lt;y")))
    assert app.isdigit()
    assert """called with ("a 'b' é", 3, True, 'x<y')""" in one.ended(app)
    answer = json.loads(
        one.start({"lang": "PYTHON", "className": "simple", "methodName": "main", "parameters": [1, [2.5, None], "ü\u2028😀"]})
    )
    assert one.ended(str(answer["id"])).strip().startswith("called with (1, [2.5, None], 'ü\\u2028😀')")
    assert answer["app"] in {row["app"] for row in one.agent.json("apps")["apps"]}
    assert "places ['one', 'two']" in one.ended(one.start(xml("spread", ("INT_T", "12"))))
    path = tmp_path / "program.py"
    path.write_text("def hello(*names):\n    print('hello', *names)\n")
    assert "hello you" in one.ended(one.start(xml("hello", ("STRING_T", "you"), module=str(path))))
    assert "plain 7" in one.ended(one.start(xml("", ("STRING_T", "plain"), ("INT_T", "7"), module="/bin/echo", lang="C")))


def test_a_failure_is_told_and_not_tried_again(two: tuple[Rest, Rest], tmp_path: Path) -> None:
    one, _ = two
    runs = tmp_path / "runs.txt"
    log = one.ended(one.start(xml("fails", ("FILE_T", str(runs)))), "failed")
    assert "ValueError: on purpose" in log
    assert runs.read_text() == "x"
    assert "no function 'nothing'" in one.ended(one.start(xml("nothing")), "failed")
    assert "there is no module 'absent'" in one.ended(one.start(xml("main", module="absent")), "failed")


@pytest.fixture
def orchestrator() -> Iterator[tuple[str, queue.Queue[tuple[str, str, str]]]]:
    """The address of an HTTP server, and what it is told."""
    told: queue.Queue[tuple[str, str, str]] = queue.Queue()
    refusals = [503]  # the first call is to be tried again

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if not refusals:
                told.put((self.command, self.path, body))
            self.send_response(refusals.pop() if refusals else 200)
            self.end_headers()

        do_POST = do_PUT

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", told
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_orchestrator_is_told(two: tuple[Rest, Rest], orchestrator, tmp_path: Path) -> None:
    one, two_rest = two
    address, told = orchestrator
    sends = f"<orchestrator><host>http://{address}</host><method>PUT</method><operation>COMPSs/endApplication/</operation></orchestrator>"
    body = xml("main", ("INT_T", "5"), more=sends).replace("<hasResult>false", "<hasResult>true")
    app = one.start(body)
    method, path, text = told.get(timeout=30)
    assert (method, path) == ("PUT", "/COMPSs/endApplication/")
    end = ET.fromstring(text)
    assert end.tag == "endApplication"
    assert end.findtext("jobId") == app
    assert end.findtext("endStatus") == "OK"
    assert 0 < int(end.findtext("profile/executionStart") or 0) <= int(end.findtext("profile/executionEnd") or 0)
    location = end.findtext("results/locations") or ""
    assert location.startswith(f"file://{socket.gethostname()}/")
    sys.path[:0] = [str(Path(__file__).resolve().parents[2] / name) for name in ("sdk/python", "sdk/python/compat")]
    from pycompss.util.serialization.serializer import deserialize_from_file

    assert deserialize_from_file(location.removeprefix(f"file://{socket.gethostname()}")) == [5]
    wanted = {"host": address, "method": "POST", "operation": "/end"}
    request = {"lang": "PYTHON", "className": "simple", "methodName": "fails", "parameters": [str(tmp_path / "runs.txt")]}
    started = json.loads(one.start({**request, "orchestrator": wanted}))
    method, path, text = told.get(timeout=30)
    assert (method, path) == ("POST", "/end")
    assert ET.fromstring(text).findtext("endStatus") == "EXECUTION_FAILED"
    assert ET.fromstring(text).findtext("jobId") == str(started["id"])
    # An agent that orchestrates takes the very same message.
    assert two_rest.put("/endApplication", text) == (200, "")
    assert two_rest.put("/endApplication", {"jobId": "7", "endStatus": "OK"})[0] == 200
    assert two_rest.put("/endApplication", "<endApplication><jobId>7</jobId></endApplication>")[0] == 400
    assert f"application {started['id']} of another agent ended" in two_rest.agent.log_text()


def test_the_orchestrator_is_told_by_the_guardian(two: tuple[Rest, Rest], orchestrator, tmp_path: Path) -> None:
    one, two_rest = two
    address, told = orchestrator
    wanted = {"host": address, "operation": "end"}
    gate = tmp_path / "gate"
    request = {"lang": "PYTHON", "className": "simple", "methodName": "waits", "parameters": [str(gate)]}
    app = json.loads(one.start({**request, "orchestrator": wanted}))
    # What depends on a result is shown once the guardian has that.
    wait_until(lambda: "result of" in one.agent.shoal("logs", app["app"]).stdout, 20, "it is guarded")
    one.agent.kill()
    wait_until(lambda: f"application {app['app'][:8]}" in two_rest.agent.log_text(), 40, "the guardian runs it")
    gate.touch()
    assert ET.fromstring(told.get(timeout=30)[2]).findtext("jobId") == str(app["id"])


def test_members_are_taken_off_and_given_work_again(two: tuple[Rest, Rest]) -> None:
    one, _ = two
    wait_until(lambda: len(one.resources()) == 2, 10, "both are listed")
    added = "<newResource><externalResource><name>two</name><description/></externalResource></newResource>"
    status, text = one.put("/addResources", added)
    assert status == 200
    assert "shares its work" in text
    two_units = "<resources><processors><processor><computingUnits>2</computingUnits></processor></processors></resources>"
    status, text = one.put("/removeResources", node("reduceNode", "two", two_units.replace("2<", "1<")))
    assert status == 409
    assert "has 2 units" in text
    assert one.put("/removeResources", node("reduceNode", "two", two_units))[0] == 200
    assert list(one.resources()) == ["one"]
    assert "places ['one']" in one.ended(one.start(xml("spread", ("INT_T", "6"))))
    status, text = one.put("/addResources", {"name": "two"})
    assert status == 200
    assert "given tasks again" in json.loads(text)["message"]
    assert "places ['one', 'two']" in one.ended(one.start(xml("spread", ("INT_T", "12"))))
    for path, root in (("/removeNode", "removeNode"), ("/lostNode", "lostNode")):
        assert one.put(path, node(root, "two"))[0] == 200
        assert list(one.resources()) == ["one"]
        endpoint = next(r["endpoint"] for r in one.agent.json("agents")["agents"] if r["name"] == "two").removeprefix("tcp://")
        host, _, port = endpoint.rpartition(":")
        by_port = f"<name>{host}</name><resourceConf><Property><Name>Port</Name><Value>{port}</Value></Property></resourceConf>"
        assert one.put("/addResources", f"<newResource><nioResource>{by_port}</nioResource></newResource>")[0] == 200
        assert len(one.resources()) == 2
    status, text = one.put("/addResources", {"name": "elsewhere", "port": 46202})
    assert status == 404
    assert "shoal join" in json.loads(text)["error"]
    assert one.put("/lostNode", node("lostNode", "elsewhere"))[0] == 200
    status, text = one.put("/removeNode", node("removeNode", "one"))
    assert status == 409
    assert "DELETE /COMPSs" in text


def test_what_is_no_request_is_refused(two: tuple[Rest, Rest]) -> None:
    one, _ = two
    paths = ("/addResources", "/removeResources", "/removeNode", "/lostNode", "/startApplication", "/endApplication")
    for path in paths:
        for body in ("", "<", "<a></b>", "<other/>", "text", "{", "[]", "\0", b"\xff\xfe\x00<", "<a>" * 5000):
            status, text = one.ask("PUT", path, body)
            assert status == 400, (path, body, text)
            assert json.loads(text)["error"]
        assert one.ask("GET", path)[0] == 405
        assert one.ask("POST", path, "<a/>")[0] == 405
    for wrong, words in (
        (xml("main", ("INT_T", "x")), "whole number"),
        (xml("main", ("PSCO_T", "x")), "PSCO_T"),
        (xml("main", lang="JAVA"), "JAVA"),
        (xml("main").replace("<lang>PYTHON</lang>", ""), "JAVA"),
        (xml("os.system"), "methodName"),
        (xml("main", module="a;b"), "className"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + xml("main").split("\n")[1], "document type"),
    ):
        status, text = one.put("/startApplication", wrong)
        assert (status, words in text) == (400, True), text
    assert one.put("/startApplication", xml("main", ("STRING_T", "x" * 100_000)))[0] == 200
    status, _ = one.put("/startApplication", xml("main", ("STRING_T", "x" * 300_000)))
    assert status == 413
    assert one.ask("GET", "/nothing")[0] == 404
    assert one.ask("GET", "")[0] == 405
    assert one.ask("DELETE", "/test")[0] == 405
    assert one.ask("GET", "/test", headers={"Expect": "100-continue"})[0] == 200
    assert one.put("/startApplication", xml("main", module="/bin/absent", lang="C"))[0] == 501
    assert "called with" in one.ended(one.start(xml("main")))


def test_who_may_ask(two: tuple[Rest, Rest], cluster: Cluster) -> None:
    one, _ = two
    for header, value in (("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site"), ("Host", "evil.example:80")):
        for method, path in (("PUT", "/startApplication"), ("DELETE", ""), ("GET", "/resources"), ("OPTIONS", "/test")):
            status, text = one.ask(method, path, xml("main") if method == "PUT" else None, {header: value})
            assert status == 403, text
    assert one.ask("GET", "/test", headers={"Host": f"localhost:{one.port}"})[0] == 200
    assert one.ask("GET", "/test", headers={"Host": f"{socket.gethostname()}:{one.port}"})[0] == 200
    off = Rest(cluster.found("off", compss_rest="none"))
    status, text = off.ask("GET", "/test")
    assert status == 403
    assert "compss_rest" in text
    if os.geteuid() == 0:  # another user of this host
        other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        code = "import http.client,sys; c=http.client.HTTPConnection('127.0.0.1', int(sys.argv[1])); " \
               "c.request('DELETE', '/COMPSs'); print(c.getresponse().status)"  # fmt: skip
        command = [*other, "/usr/bin/python3", "-c", code]
        asked = subprocess.run([*command, str(one.port)], capture_output=True, text=True, timeout=20, check=True)
        assert asked.stdout.strip() == "403"
        shared = Rest(cluster.found("shared", compss_rest="host"))
        asked = subprocess.run([*command, str(shared.port)], capture_output=True, text=True, timeout=20, check=True)
        assert asked.stdout.strip() == "200"
    assert one.ask("GET", "/test")[0] == 200


def test_delete_and_the_stop_action_stop_agents(two: tuple[Rest, Rest], cluster: Cluster, tmp_path: Path) -> None:
    one, two_rest = two
    third = Rest(cluster.found("third"))
    assert third.ask("DELETE", "") == (200, "")
    assert third.agent.process is not None
    assert third.agent.process.wait(20) == 0
    gate = tmp_path / "gate"
    forward = f"<forwardTo><agent>http://{two_rest.host}:{two_rest.port}</agent></forwardTo>"
    stop = f"<action><actionName>stop</actionName>{forward}</action>"
    app = one.start(xml("waits", ("FILE_T", str(gate)), more=stop))
    assert one.state(app) == "running"
    gate.touch()
    for agent in (one.agent, two_rest.agent):
        assert agent.process is not None
        assert agent.process.wait(30) == 0
