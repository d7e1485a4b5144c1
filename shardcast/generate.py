"""Writes shardcast/blocking.py from the async classes, so that there is one text of each; `make sdk` runs it.

A method of the blocking class has the signature and the docstring of the async one without the awaiting.
"""

import ast
import inspect
import sys
import textwrap
from pathlib import Path

from broker.client import consumer
from broker.client.publishing import producer, transaction

TARGET = Path(__file__).with_name("blocking.py")
SOURCES = (transaction, producer, consumer)
CLASSES = ("Transaction", "Producer", "Consumer")
GIVEN = ("Transaction",)  # classes that users do not make: methods of others return them

HEADER = '''"""The SDK's blocking classes, made by shardcast/generate.py from the async ones: do not edit."""

import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Literal, Self

from anyio.from_thread import BlockingPortal, start_blocking_portal

from broker import client as aio
from broker.client import Batch, Check, Message, Receipt, Receipts, ReceivedMessage
from broker.errors import NotOpen

LOOP = {"use_uvloop": sys.platform != "win32"}
'''

FRAME = """
    def __enter__(self) -> Self:
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(backend_options=LOOP))
            stack.enter_context(portal.wrap_async_context_manager(self._inner))
            self._portal, self._stack = portal, stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._portal = None
        self._stack.__exit__(kind, error, trace)

    def _open_portal(self) -> BlockingPortal:
        if self._portal is None:
            raise NotOpen(what="{what}")
        return self._portal
"""

NEXT = """
        portal, (asked_of, asking), self._asking = self._open_portal(), self._asking, (None, None)
        if asking is None or asked_of is not portal:
            asking = portal.start_task_soon(self._inner.__anext__)
        try:
            return asking.result()
        except BaseException as error:  # its own, or a signal's: what was asked for is the next call's then
            if not (asking.done() and error is asking.exception()):
                self._asking = portal, asking
            raise
"""

GIVEN_FRAME = """
    def __init__(self, inner: aio.{name}, portal: BlockingPortal) -> None:
        self._inner = inner
        self._portal = portal

    def __enter__(self) -> Self:
        self._context = self._portal.wrap_async_context_manager(self._inner)
        self._context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.__exit__(kind, error, trace)

    def _open_portal(self) -> BlockingPortal:
        return self._portal
"""


def generate() -> str:
    """The text of blocking.py."""
    parts = [HEADER]
    for module, name in zip(SOURCES, CLASSES, strict=True):
        tree = ast.parse(inspect.getsource(module))
        found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
        parts.append(_class(found))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _class(node: ast.ClassDef) -> str:
    methods = {each.name: each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    lines = [f"class {node.name}:", _doc(node, 4)]
    if node.name in GIVEN:
        lines.append(GIVEN_FRAME.strip("\n").format(name=node.name))
    else:
        lines += [_init(node.name, methods), FRAME.strip("\n").format(what=node.name.lower())]
    if "__anext__" in methods:
        lines += ["    def __iter__(self) -> Self:\n        return self", _next(methods["__anext__"])]
    public = [each for name, each in methods.items() if not name.startswith("_")]
    lines += [_call(each) for each in public]
    return "\n\n".join(lines).replace(':\n\n    """', ':\n    """', 1)


def _init(name: str, methods: dict[str, ast.FunctionDef | ast.AsyncFunctionDef]) -> str:
    arguments = methods["__init__"].args
    lines = [
        f"    def __init__({ast.unparse(arguments)}) -> None:",
        f"        self._inner = aio.{name}({_passed(arguments)})",
        "        self._portal: BlockingPortal | None = None",
    ]
    if (method := methods.get("__anext__")) is not None and method.returns:
        asking = f"tuple[BlockingPortal | None, Future[{ast.unparse(method.returns)}] | None]"
        lines.append(f"        self._asking: {asking} = (None, None)")
    return "\n".join(lines)


def _next(method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = ast.unparse(method.returns) if method.returns else "None"
    return f"    def __next__(self) -> {returns}:\n{_doc(method, 8)}\n{NEXT.strip(chr(10))}"


def _call(method: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    returns = ast.unparse(method.returns) if method.returns else "None"
    passed = ", ".join(filter(None, (f"self._inner.{method.name}", _passed(method.args))))
    called = f"self._open_portal().call({f'partial({passed})' if method.args.kwonlyargs else passed})"
    if returns in GIVEN:
        called = f"{returns}({called}, self._open_portal())"
    return (
        f"    def {method.name}({ast.unparse(method.args)}) -> {returns}:\n{_doc(method, 8)}\n        return {called}"
    )


def _passed(arguments: ast.arguments) -> str:
    by_place = [argument.arg for argument in arguments.args if argument.arg != "self"]
    rest = [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    by_name = [f"{argument.arg}={argument.arg}" for argument in arguments.kwonlyargs]
    return ", ".join(by_place + rest + by_name)


def _doc(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, indent: int) -> str:
    text = ast.get_docstring(node) or ""
    quoted = f'"""{text}\n"""' if "\n" in text else f'"""{text}"""'
    return textwrap.indent(quoted, " " * indent)


if __name__ == "__main__":
    sys.stdout.write(generate()) if "--print" in sys.argv else TARGET.write_text(generate())
