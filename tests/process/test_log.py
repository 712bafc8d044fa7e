from __future__ import annotations

import asyncio
import io
import json
import logging
from typing import Any

from polyvisor.kube import ApiError, Controller, WorkQueue, about
from polyvisor.kube.tasks import end_task
from polyvisor.process.log import JsonLines


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def handler(**constant: str) -> tuple[logging.Handler, io.StringIO]:
    stream = io.StringIO()
    found = logging.StreamHandler(stream)
    found.setFormatter(JsonLines(constant))
    return found, stream


def test_a_line_says_who_wrote_it_and_keeps_its_own_fields() -> None:
    found, stream = handler(component="virt-handler", node="n1", nothing="")
    log = logging.Logger("polyvisor.test")
    log.addHandler(found)
    log.info("two\nlines %s", "here", extra={"hint": "x"})
    try:
        raise ValueError("odd")
    except ValueError:
        log.exception("failed")
    first, second = lines(stream)
    assert first.pop("time").endswith("+00:00")
    assert first == {
        "level": "info",
        "logger": "polyvisor.test",
        "message": "two\nlines here",
        "component": "virt-handler",
        "node": "n1",
        "hint": "x",
    }
    assert "ValueError: odd" in second["exception"]


async def test_a_controllers_lines_name_the_object_that_it_works_on() -> None:
    found, stream = handler()
    other = logging.getLogger("polyvisor.elsewhere")
    other.addHandler(found)
    again = asyncio.Event()
    done = {"one": asyncio.Event(), "two": asyncio.Event()}

    async def reconcile(key: tuple[str, str]) -> None:
        vmi = {"kind": "VirtualMachineInstance", "metadata": {"namespace": key[0], "name": key[1], "uid": key[1] * 2}}
        about.work_with(vmi)
        await asyncio.sleep(0)
        other.warning("seen in %s", key[1])
        await asyncio.to_thread(other.warning, "seen in a thread")
        if done[key[1]].is_set():
            again.set()
            return
        done[key[1]].set()
        if key[1] == "two":
            raise ApiError(500, "InternalError", "no")

    queue: WorkQueue[tuple[str, str]] = WorkQueue()
    controller = Controller("logged", queue, reconcile, workers=2)
    logging.getLogger("polyvisor.logged").addHandler(found)
    task = asyncio.create_task(controller.run())
    queue.add(("default", "one"))
    queue.add(("default", "two"))
    async with asyncio.timeout(20):
        for event in done.values():
            await event.wait()
        await again.wait()
    await end_task(task)
    for line in lines(stream):
        assert line["controller"] == "logged"
        assert line["kind"] == "VirtualMachineInstance"
        assert line["namespace"] == "default"
        assert line["uid"] == line["name"] * 2
    assert sorted(line["name"] for line in lines(stream)) == ["one"] * 2 + ["two"] * 5
    assert about.fields() == {}
    other.removeHandler(found)
