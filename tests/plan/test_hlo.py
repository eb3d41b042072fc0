"""Bytes parsed from a program's text: hand-written programs, and compiled programs whose shapes
determine the result.
"""

import math

import jax
import jax.numpy as jnp
import pytest

from automoe_jax.plan.hlo import Kind, Moved, traffic

# Four devices; a loop of five rounds, a branch that moves little and one that moves much, and a
# permutation.
PROGRAM = """\
HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (state: (s32[], f32[8,16])) -> (s32[], f32[8,16]) {
  %state = (s32[], f32[8,16]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = f32[8,16]{1,0} get-tuple-element(%state), index=1
  %reduced = f32[8,16]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  ROOT %next = (s32[], f32[8,16]{1,0}) tuple(%i, %reduced)
}

%condition (state: (s32[], f32[8,16])) -> pred[] {
  %state.1 = (s32[], f32[8,16]{1,0}) parameter(0)
  ROOT %go = pred[] constant(true)
}

%little (l: bf16[4]) -> bf16[16] {
  %l = bf16[4]{0} parameter(0)
  ROOT %gathered = bf16[16]{0} all-gather(%l), channel_id=2, replica_groups=[1,4]<=[4], dimensions={0}
}

%much (m: bf16[4]) -> bf16[16] {
  %m = bf16[4]{0} parameter(0)
  %pad = bf16[64]{0} broadcast(%m), dimensions={0}
  ROOT %scattered = bf16[16]{0} reduce-scatter(%pad), channel_id=3, replica_groups=[1,4]<=[4], dimensions={0}, to_apply=%add
}

ENTRY %main (p: f32[8,16], which: s32[], small: bf16[4]) -> f32[8,16] {
  %p = f32[8,16]{1,0:T(8,128)} parameter(0)
  %which = s32[] parameter(1)
  %small = bf16[4]{0} parameter(2)
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,16]{1,0}) tuple(%zero, %p)
  %loop = (s32[], f32[8,16]{1,0}) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %choice = bf16[16]{0} conditional(%which, %small, %small), branch_computations={%little, %much}
  %y = f32[8,16]{1,0} get-tuple-element(%loop), index=1
  ROOT %moved = f32[8,16]{1,0} collective-permute(%y), channel_id=4, source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
}
"""


def test_loops_branches_and_groups() -> None:
    whole = 8 * 16 * 4
    found = traffic(PROGRAM, domain=2).collectives
    assert found == {
        Kind("all-reduce", False): Moved(5, 5 * whole, 5 * 2 * whole / 2),
        Kind("reduce-scatter", True): Moved(1, 128, 128 * 3 / 4),  # the branch that moves more
        Kind("collective-permute", True): Moved(1, whole, whole),
    }
    assert {kind.crosses for kind in traffic(PROGRAM).collectives} == {False}


def test_a_loop_of_unknown_length_counts_once() -> None:
    found = traffic(PROGRAM.replace(', backend_config={"known_trip_count":{"n":"5"}}', ""))
    assert found.unknown_loops == 1
    assert found.collectives[Kind("all-reduce", False)].count == 1


def test_groups_written_as_a_permuted_range() -> None:
    """[2,2]<=[2,2]T(1,0) is {0,2}, {1,3}: both groups leave a domain of two."""
    found = traffic(PROGRAM.replace("{{0,1},{2,3}}", "[2,2]<=[2,2]T(1,0)"), domain=2).collectives
    assert Kind("all-reduce", True) in found
    assert Kind("all-reduce", False) not in found


def test_an_asynchronous_collective_counts_once() -> None:
    started = PROGRAM.replace(
        "bf16[16]{0} all-gather(%l)", "(bf16[4]{0}, bf16[16]{0}) all-gather-start(%l)"
    ).replace("{%little, %much}", "{%little}")
    assert traffic(started).collectives[Kind("all-gather", False)] == Moved(1, 32, 32 * 3 / 4)


@pytest.mark.parametrize("rounds", [1, 7])
def test_memory_of_a_compiled_loop(rounds: int) -> None:
    """Every round reads and writes a matrix product's operands; the rest is small."""

    def run(x: jax.Array, w: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, rounds, lambda _, x: x @ w, x)

    size = 256
    text = jax.jit(run).lower(jnp.zeros((size, size)), jnp.zeros((size, size))).compile().as_text()
    found = traffic(text)
    assert found.unknown_loops == 0
    assert math.isclose(found.memory, rounds * 3 * size * size * 4, rel_tol=0.7)
    assert found.memory >= rounds * 3 * size * size * 4
