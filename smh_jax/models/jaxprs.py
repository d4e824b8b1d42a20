"""Evaluates the programs that JAX traces (jaxprs), equation by equation, by a rule of the caller's.

The rule may compute values, postpone them or translate them; this module alone knows which
equations call an inner program and where that program is.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

# The results of an equation, given its operands. Constants arrive as they are in the program.
Rule = Callable[[JaxprEqn, list[Any]], Sequence[Any]]

# Primitives that run an inner program once, on their own operands. Derivative rules, which some of
# them hold besides, are no part of a forward pass.
_CALLS = frozenset(
    {"jit", "closed_call", "core_call", "checkpoint", "remat2", "custom_jvp_call"}
    | {"custom_vjp_call"}
)


def called_program(equation: JaxprEqn) -> ClosedJaxpr | None:
    """The program that an equation runs once on its operands; None unless it is a call."""
    if equation.primitive.name not in _CALLS:
        return None
    params = equation.params
    inner = params["jaxpr"] if "jaxpr" in params else params["call_jaxpr"]
    return inner if isinstance(inner, ClosedJaxpr) else ClosedJaxpr(inner, ())


def evaluate(program: ClosedJaxpr, inputs: Sequence[Any], rule: Rule) -> list[Any]:
    """The results of a program whose equations are evaluated by a rule.

    Args:
        program: as `jax.make_jaxpr` gives it.
        inputs: values of any kind that the rule understands.
        rule: called in the program's order with each equation that the results depend on.
    """
    jaxpr = program.jaxpr
    values = dict(
        zip(
            itertools.chain(jaxpr.constvars, jaxpr.invars),
            itertools.chain(program.consts, inputs),
            strict=True,
        )
    )

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in _needed_equations(jaxpr):
        results = rule(equation, [read(atom) for atom in equation.invars])
        values.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def bind(equation: JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """The results of an equation as JAX computes them; a rule that changes nothing."""
    with equation.ctx.manager:
        params = equation.primitive.get_bind_params(equation.params)
        results = equation.primitive.bind(*operands, **params)
    return list(results) if equation.primitive.multiple_results else [results]


def _needed_equations(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations that the results depend on, in order; a trace also holds others."""
    needed = {atom for atom in jaxpr.outvars if not isinstance(atom, Literal)}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if equation.effects or needed.intersection(equation.outvars):
            needed.update(atom for atom in equation.invars if not isinstance(atom, Literal))
            kept.append(equation)
    return kept[::-1]
