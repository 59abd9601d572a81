"""Compares a decoded message with the shape of SubmitJob: types, members, choices and documented ranges.

Every problem is reported with its path; no problem quotes a value. A ``bool`` is no integer, ``null`` is nothing
that the SDK takes, and an object that names a member twice is refused.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from controller.core.problems import Problems, key_path
from controller.core.request_json import JSON, RepeatedMembers, kind_of
from controller.core.request_rules import ELSEWHERE, MEMBER_RULES, NO_RULES, OWN_MEMBERS, STRUCTURE_RULES, MemberRule
from controller.core.shapes import Kind, Shape
from controller.core.timestamps import instant

INTEGER_RANGES: Final = {Kind.INTEGER: (-(2**31), 2**31 - 1), Kind.LONG: (-(2**63), 2**63 - 1)}

_STRUCTURE, _LIST, _MAP, _STRING = Kind.STRUCTURE, Kind.LIST, Kind.MAP, Kind.STRING


def check(value: JSON, shape: Shape, path: str, problems: Problems, rule: MemberRule | None = None) -> None:
    """Add every problem that ``value`` has at ``path``. Recursive, as deep as the tree of shapes."""
    kind = shape.kind
    if kind is _STRING:
        if type(value) is not str:
            problems.add(path, _wrong_type("a string", value))
        elif rule is not None or shape.choices or shape.min is not None or shape.max is not None:
            _check_string(value, shape, path, problems, rule)
    elif kind is _STRUCTURE:
        if isinstance(value, dict):
            _check_structure(value, shape, path, problems)
        else:
            problems.add(path, _wrong_type("an object", value))
    elif kind is _LIST:
        if type(value) is list:
            _check_list(value, shape, path, problems, rule)
        else:
            problems.add(path, _wrong_type("an array", value))
    elif kind is _MAP:
        if isinstance(value, dict):
            _check_map(value, shape, path, problems)
        else:
            problems.add(path, _wrong_type("an object", value))
    else:
        _check_other(value, shape, path, problems, rule)


def check_repeated(value: dict[str, JSON], path: str, problems: Problems) -> None:
    """Members that an object names more than once: which one was meant is anybody's guess."""
    if type(value) is RepeatedMembers:
        for name in value.repeated:
            problems.add(key_path(path, name), "given more than once")


def _check_structure(
    value: dict[str, JSON], shape: Shape, path: str, problems: Problems, also_known: Collection[str] = ()
) -> None:
    if type(value) is not dict:
        check_repeated(value, path, problems)
    members, prefix = shape.members, f"{path}." if path else ""
    if own := OWN_MEMBERS.get(shape.name):
        members = {**members, **own}
    rules = MEMBER_RULES.get(shape.name, NO_RULES)
    for name, member in value.items():
        member_shape = members.get(name)
        if member_shape is not None:
            check(member, member_shape, prefix + name, problems, rules.get(name))
        else:
            elsewhere = None if path else ELSEWHERE
            problems.add_unknown_member(
                path, name, (*members, *also_known), of=path or "the message", elsewhere=elsewhere
            )
        if problems.is_full:
            return
    for name in shape.required:
        if name not in value:
            problems.add(prefix + name, "required")
    relate = STRUCTURE_RULES.get(shape.name)
    if relate is not None:
        relate(value, path, problems)


def check_request(members: dict[str, JSON], shape: Shape, problems: Problems, *, also_known: Collection[str]) -> None:
    """The top level: ``also_known`` are the message's own members, candidates for what an unknown one meant."""
    _check_structure(members, shape, "", problems, also_known)


def _check_list(value: list[JSON], shape: Shape, path: str, problems: Problems, rule: MemberRule | None) -> None:
    assert shape.element is not None
    _check_size(len(value), shape, path, problems, rule, "entries")
    has_filled_entries = rule is not None and rule.has_filled_entries
    element = shape.element
    for index, entry in enumerate(value):
        check(entry, element, f"{path}[{index}]", problems)
        if has_filled_entries and entry == "":
            problems.add(f"{path}[{index}]", "must not be an empty string")
        if problems.is_full:
            return


def _check_map(value: dict[str, JSON], shape: Shape, path: str, problems: Problems) -> None:
    assert shape.element is not None
    assert shape.key is not None
    if type(value) is not dict:
        check_repeated(value, path, problems)
    key_shape, element = shape.key, shape.element
    for key, entry in value.items():
        entry_path = key_path(path, key)
        if key_shape.min is not None or key_shape.max is not None:
            _check_size(len(key), key_shape, f"{entry_path} (key)", problems, None, "characters")
        check(entry, element, entry_path, problems)
        if problems.is_full:
            return


def _check_string(value: str, shape: Shape, path: str, problems: Problems, rule: MemberRule | None) -> None:
    if shape.choices:
        given = value.upper() if rule is not None and rule.is_any_case else value
        if given not in shape.choices:
            says = rule.says if rule is not None else f"be {_alternatives(shape.choices)}"
            problems.add(path, f"must {says}")
        return
    if rule is not None and rule.pattern is not None:
        if rule.pattern.fullmatch(value) is None:
            problems.add(path, f"must {rule.says}")
        return
    _check_size(len(value), shape, path, problems, rule, "characters")


def _check_other(value: JSON, shape: Shape, path: str, problems: Problems, rule: MemberRule | None) -> None:
    if shape.kind in INTEGER_RANGES:
        check_integer(value, path, problems, rule, *INTEGER_RANGES[shape.kind], least=shape.min, most=shape.max)
    elif shape.kind is Kind.BOOLEAN:
        if type(value) is not bool:
            problems.add(path, _wrong_type("true or false", value))
    elif shape.kind is Kind.FLOAT:
        if type(value) not in (int, float) or not math.isfinite(value):
            problems.add(path, _wrong_type("a number", value))
    elif type(value) is not str or instant(value) is None:
        problems.add(path, "must be a time as RFC 3339 writes it, such as 2030-01-31T12:00:00Z")


def check_integer(
    value: JSON,
    path: str,
    problems: Problems,
    rule: MemberRule | None,
    lowest: int,
    highest: int,
    *,
    least: int | None = None,
    most: int | None = None,
) -> None:
    """An integer within the type's own range, the model's and the rule's."""
    if type(value) is not int:
        problems.add(path, _wrong_type("an integer", value, rule))
    elif rule is not None:
        if not _is_between(value, rule.min, rule.max) or not lowest <= value <= highest:
            problems.add(path, f"must {rule.says}")
    elif not lowest <= value <= highest:
        problems.add(path, f"must be from {lowest:,} to {highest:,}")
    elif not _is_between(value, least, most):
        problems.add(path, f"must be {_range(least, most)}")


def _check_size(size: int, shape: Shape, path: str, problems: Problems, rule: MemberRule | None, of: str) -> None:
    if rule is not None and not _is_between(size, rule.min, rule.max):
        problems.add(path, f"must {rule.says}")
    elif not _is_between(size, shape.min, shape.max):
        problems.add(path, f"must have {_range(shape.min, shape.max)} {of}")


def _is_between(value: int, least: int | None, most: int | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _range(least: int | None, most: int | None) -> str:
    if least is None:
        return f"at most {most}"
    return f"at least {least}" if most is None else f"from {least} to {most}"


def _alternatives(choices: tuple[str, ...]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}" if len(choices) > 1 else choices[0]


def _wrong_type(wanted: str, value: JSON, rule: MemberRule | None = None) -> str:
    if value is None:
        return f"must not be null: give {wanted}, or leave the member out"
    if wanted == "a string" and type(value) in (int, float):
        return "must be a string, not a number: write it in quotes"
    ranged = f" and {rule.says}" if rule is not None else ""
    return f"must be {wanted}{ranged}, not {kind_of(value)}"
