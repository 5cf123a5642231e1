"""A blocked matrix product; the same program in C++ is examples/cpp/matrix.cpp.

Blocks are values that tasks share; each product of two blocks is a task, and the sums into one block of the result run in
order because they update the same value.

    shoal run examples/python/matrix.py [BLOCKS] [SIZE]      default: 4 x 4 blocks of 64 x 64 numbers
"""

from __future__ import annotations

import sys

import numpy as np

from shoal import INOUT, task, wait_on


@task(returns=1)
def make_block(size: int, row: int, column: int) -> np.ndarray:
    """A block of numbers from 0 to 9 that depend on where it is."""
    return ((np.arange(size * size) + row * 7 + column * 3) % 10).astype(float).reshape(size, size)


@task(total=INOUT)
def multiply_add(a: np.ndarray, b: np.ndarray, total: np.ndarray) -> None:
    """Adds the product of two blocks."""
    total += a @ b


@task(returns=float)
def trace(block: np.ndarray) -> float:
    """The sum of the diagonal."""
    return float(np.trace(block))


def main(blocks: int = 4, size: int = 64) -> None:
    """Prints the trace of the product."""
    a = [[make_block(size, i, j) for j in range(blocks)] for i in range(blocks)]
    b = [[make_block(size, j, i) for j in range(blocks)] for i in range(blocks)]
    traces = []
    for i in range(blocks):
        for j in range(blocks):
            total = np.zeros((size, size))
            for k in range(blocks):
                multiply_add(a[i][k], b[k][j], total)
            if i == j:
                traces.append(trace(total))
    print(f"trace of the product: {sum(wait_on(traces)):g}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
