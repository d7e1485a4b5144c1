"""Hypothesis strategies for any proto message: well-formed requests of every kind of nonsense."""

import sys
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

NAMES = ("", "t", "u", "g", "h", "%DLQ%g", "run/r/0", "producer/p", "a b", "ä", "x" * 300, "../../etc", "\x00")
_MOST_DEEP = 4


def _ints(low: int, high: int) -> st.SearchStrategy[int]:
    edges = [edge for edge in (0, 1, 2, 3, 4, 1_000, 30_000, low, high, high // 2) if low <= edge <= high]
    return st.sampled_from(edges) | st.integers(low, high)


_SCALARS: dict[int, Callable[[], st.SearchStrategy[Any]]] = {
    FieldDescriptor.CPPTYPE_INT32: lambda: _ints(-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.CPPTYPE_INT64: lambda: _ints(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_UINT32: lambda: _ints(0, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_UINT64: lambda: _ints(0, (1 << 64) - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: lambda: st.sampled_from((0.0, -1.0, 0.5, 1e9, sys.float_info.max)) | st.floats(),
    FieldDescriptor.CPPTYPE_FLOAT: lambda: st.floats(width=32),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans,
    FieldDescriptor.CPPTYPE_ENUM: lambda: st.integers(0, 6),
}


def messages_of(descriptor: Descriptor, deep: int = 0) -> st.SearchStrategy[Message]:
    """Any message of this type, each field there or not."""
    kind = GetMessageClass(descriptor)
    fields = {field.name: _values_of(field, deep) for field in descriptor.fields if deep < _MOST_DEEP}
    return st.fixed_dictionaries({}, optional=fields).map(lambda values: kind(**values))


def _values_of(field: FieldDescriptor, deep: int) -> st.SearchStrategy[Any]:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        names, values = (_value_of(message.fields_by_name[part], deep + 1) for part in ("key", "value"))
        return st.dictionaries(names, values, max_size=2)
    return st.lists(_value_of(field, deep), max_size=3) if field.is_repeated else _value_of(field, deep)


def _value_of(field: FieldDescriptor, deep: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages_of(field.message_type, deep + 1)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=40)
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.sampled_from(NAMES) | st.text(st.characters(codec="utf-8"), max_size=10)
    return _SCALARS[field.cpp_type]()
