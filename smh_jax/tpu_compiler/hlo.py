"""Reads an optimized HLO program, as the TPU compiler prints it."""

import dataclasses
import math
import re

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CYCLES = re.compile(r'"estimated_cycles":"?(\d+)')
# Finds the shape, or shapes, of the result.
ALL_REDUCE = re.compile(r" = (.*?) all-reduce(?:-start)?\(")
# The result of a start holds the operands before the gathered arrays.
_ALL_GATHER = re.compile(r" = (.*?) all-gather(-start)?\(")
# The iota form is [groups,members]<=[replicas].
_GROUPS = re.compile(r"replica_groups=(?:\{(\{.*?\})\}|\[(\d+),\d+\]<=)")
_CALL = re.compile(r" (?:while|call|conditional)\(.*")
_CALLED = re.compile(r"(body|condition|to_apply|branch_computations)=(\{[^}]*\}|%?[\w.\-]+)")
_TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,]*)\]")
_CONSTANT = re.compile(r" = [su]32\[\]\S* constant\((\d+)\)")
_FUSION = re.compile(r" fusion\(.* calls=%?([\w.\-]+)")
_RESULT = re.compile(r"%([\w.\-]+) = \w+\[([\d,]*)\]")
# Finds the name of the result, and of the last operand: the updates.
_GATHER = re.compile(r"%([\w.\-]+) = \S+ gather\(")
_SCATTER = re.compile(r" scatter\((?:[^)]*, )?%?([\w.\-]+)\)")


@dataclasses.dataclass(frozen=True)
class Summary:
    """One execution of a program by one core. Loops count as often as they run.

    Attributes:
        cycles: sum of the compiler's estimates; 0 in a program that has no code yet. Collectives,
            gathers, sorts and scatters have no estimate.
        irregular: elements that are gathered or scattered.
        all_reduces: number of all-reduce operations, each of any number of arrays.
        all_reduced_bytes: size of the arrays that are summed over all cores.
        group_reduced_bytes: of those that are summed within groups of cores.
        all_gathered_bytes: size of the arrays that cores put together from parts of each.
    """

    cycles: int
    irregular: int
    all_reduces: int
    all_reduced_bytes: int
    group_reduced_bytes: int
    all_gathered_bytes: int = 0

    def __add__(self, other: "Summary") -> "Summary":
        """The two executed one after the other."""
        mine, others = dataclasses.astuple(self), dataclasses.astuple(other)
        return Summary(*(a + b for a, b in zip(mine, others, strict=True)))

    def __mul__(self, times: int) -> "Summary":
        """So many executions."""
        return Summary(*(times * value for value in dataclasses.astuple(self)))


_NOTHING = Summary(0, 0, 0, 0, 0)


def summarize(text: str) -> Summary:
    """Adds up a program's instructions from its entry on.

    Args:
        text: of an optimized HLO module.

    Raises:
        ValueError: if it has no entry, or a loop of unknown length around anything that counts.
    """
    computations, entry = _computations(text)
    if entry is None:
        raise ValueError("the HLO text has no ENTRY computation")
    return _summarize(entry, computations)


def _computations(text: str) -> tuple[dict[str, list[str]], str | None]:
    """The lines of each computation by name, and the name of the first to run."""
    computations: dict[str, list[str]] = {}
    entry, lines = None, []
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            lines = computations[match[2]] = []
            entry = match[2] if match[1] else entry
        else:
            lines.append(line)
    return computations, entry


def _summarize(name: str, computations: dict[str, list[str]]) -> Summary:
    total = Summary(0, _irregular(name, computations), 0, 0, 0)
    for line in computations[name]:
        if match := _CYCLES.search(line):
            total += Summary(int(match[1]), 0, 0, 0, 0)
        if match := ALL_REDUCE.search(line):
            size = num_bytes(match[1])
            groups = _GROUPS.search(line)
            in_groups = groups and (groups[1] or "").count("{") + int(groups[2] or 0) > 1
            total += Summary(0, 0, 1, 0, size) if in_groups else Summary(0, 0, 1, size, 0)
        elif match := _ALL_GATHER.search(line):
            size = num_bytes(match[1], gathered=bool(match[2]))
            total += Summary(0, 0, 0, 0, 0, size)
        elif match := _CALL.search(line):
            called = {
                role: re.findall(r"[\w.\-]+", names) for role, names in _CALLED.findall(match[0])
            }
            total += _summarize_call(called, line, computations)
    return total


def _irregular(computation: str, computations: dict[str, list[str]]) -> int:
    """Elements that a computation gathers or scatters, itself or in its fusions."""
    text = "\n".join(computations[computation])
    names = _GATHER.findall(text) + _SCATTER.findall(text)
    sizes = {
        name: math.prod(int(n) for n in dimensions.split(",") if n)
        for name, dimensions in (_RESULT.findall(text) if names else ())
    }
    fused = (_irregular(name, computations) for name in _FUSION.findall(text))
    return sum(sizes[name] for name in names) + sum(fused)


def _summarize_call(
    called: dict[str, list[str]], line: str, computations: dict[str, list[str]]
) -> Summary:
    if "body" in called:
        body = _summarize(called["body"][0], computations)
        if body == _NOTHING:
            return body
        return body * _trip_count(line, called["condition"][0], computations)
    # Of the branches of a conditional, the longest.
    names = called.get("to_apply", []) + called.get("branch_computations", [])
    parts = [_summarize(name, computations) for name in names if name in computations]
    return max(parts, key=dataclasses.astuple, default=_NOTHING)


def _trip_count(line: str, condition: str, computations: dict[str, list[str]]) -> int:
    """Of a loop whose counter starts at 0, as every scan's does."""
    if match := _TRIP_COUNT.search(line):
        return int(match[1])
    bounds = {int(n) for n in _CONSTANT.findall("\n".join(computations[condition]))}
    if len(bounds) != 1:
        raise ValueError(f"the length of the loop with condition {condition} is not known")
    return bounds.pop()


def num_bytes(shape: str, gathered: bool = False) -> int:
    """Size of an array or a tuple of arrays in HLO's notation, without padding.

    Args:
        shape: of a result.
        gathered: counts the second half of the arrays only.
    """
    arrays = _ARRAY.findall(shape)
    return sum(
        math.ceil(int(bits or 8) * math.prod(int(n) for n in dimensions.split(",") if n) / 8)
        for kind, bits, dimensions in arrays[len(arrays) // 2 if gathered else 0 :]
        if kind != "token"
    )
