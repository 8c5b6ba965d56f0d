"""Linear layers of a decoding step, each by whichever product is the fastest on a CPU.

A step multiplies a few rows, one for each hypothesis, with large matrices stored [out, in]. PyTorch's product
takes up to five times as long as others of the same numbers:

- one row: two products with half of the matrix;
- two rows, or a few where there are no copies: the matrix times the rows as columns;
- more, and any number in bfloat16: oneDNN's product with a copy of the matrix that is laid out as its kernels
  read it. A copy is kept for later searches, and used while the matrix is what it was.

What is more than a plain `nn.Linear` is called. Shapes in trailing comments: N sentences, B hypotheses each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.nn import functional as F

from .modules_vanilla_transformer import HALF_TYPES, is_plain_linear, multiplies_bfloat16

# On a CPU, for at most so many rows and at least so many entries of the matrix, the products below are faster
# than `nn.Linear`; with more rows, unless they fill whole registers, or with more inputs, they are slower.
FEW_ROWS, MANY_ENTRIES, MANY_INPUTS = 8, 2**16, 2048
# From so many rows on, a product with a copy is the fastest.
ROWS_WORTH_A_COPY = {torch.float32: 3, torch.bfloat16: 1}
# Making a copy takes about as long as it saves in so many steps.
STEPS_WORTH_A_COPY = 5
# oneDNN chooses a layout for a number of rows: that for a few serves for any number.
ROWS_OF_LAYOUT = 8
# Random vectors that tell a changed matrix of bfloat16: a row changed by 1% hides from one in five.
VECTORS_OF_HALF = 8
# oneDNN compiles a kernel of a megabyte for each number of rows that it meets, so it is shown these alone.
ROW_COUNTS = (*range(1, 17), *range(24, 65, 8), 128, 192, 256)


class Projections:
    """The linear layers of one search, during which nobody changes them.

    Args:
        steps: how many there will be at most; copies are made only where they can be worth it.
    """

    def __init__(self, steps: int):
        self._makes_copies = (
            steps >= STEPS_WORTH_A_COPY
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.enabled
        )
        self._products: dict[tuple[Any, ...], JointProduct | None] = {}

    def __call__(self, states: torch.Tensor, *projections: Any) -> tuple[torch.Tensor, ...]:
        """What each of `projections` makes of `states` (N, B, in): (N, B, out) each."""
        least = ROWS_WORTH_A_COPY.get(states.dtype, math.inf)
        if self._makes_copies and states.shape[:-1].numel() >= least and not torch.compiler.is_compiling():
            if projections not in self._products:
                self._products[projections] = joint_product(projections, states)
            if (product := self._products[projections]) is not None:
                return product(states)
        return tuple(project(projection, states) for projection in projections)


@dataclass(frozen=True)
class JointProduct:
    """One product that stands for several linear layers with the same input.

    Attributes:
        matrix: a copy of their matrices, one below the other, which oneDNN alone can read.
        bias: theirs, one behind the other.
        widths: how many outputs each has.
    """

    matrix: torch.Tensor
    bias: torch.Tensor | None
    widths: list[int]

    def __call__(self, states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(N, B, in) -> (N, B, out) for each layer, views of one tensor."""
        rows = states.shape[:-1].numel()
        product = self._multiply(states) if rows in ROW_COUNTS else self._multiply_blocks(states)
        return (product,) if len(self.widths) == 1 else product.split_with_sizes(self.widths, dim=-1)

    def _multiply(self, states: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            states, self.matrix, self.bias, "none", [], ""
        )
        return product

    def _multiply_blocks(self, states: torch.Tensor) -> torch.Tensor:
        """Block by block, each with rows of zeros up to the next of `ROW_COUNTS`."""
        product = states.new_empty(*states.shape[:-1], sum(self.widths))
        rows, found = states.flatten(0, -2), product.flatten(0, -2)
        blocks = row_blocks(len(rows))
        for part, place in zip(rows.split(blocks), found.split(blocks), strict=True):
            count = next(count for count in ROW_COUNTS if count >= len(part))
            padded = F.pad(part, (0, 0, 0, count - len(part)))
            place.copy_(self._multiply(padded)[: len(part)])
        return product


def row_blocks(rows: int) -> list[int]:
    """How a number of rows is split: into blocks of 256, one of a multiple of 64, and the rest."""
    sizes = [256] * (rows // 256) + [rows % 256 // 64 * 64, rows % 64]
    return [size for size in sizes if size]


def joint_product(projections: Sequence[Any], states: torch.Tensor) -> JointProduct | None:
    """The product that stands for `projections` of tensors like `states`, or `None` where there is none."""
    if not _can_be_joined(projections, states):
        _COPIES.pop(projections[0], None)  # of what they were before
        return None
    weights = [projection.weight for projection in projections]
    bias = None if projections[0].bias is None else torch.cat([projection.bias for projection in projections])
    return JointProduct(_current_copy(projections[0], weights), bias, [len(weight) for weight in weights])


def _can_be_joined(projections: Sequence[Any], states: torch.Tensor) -> bool:
    """Whether they are plain layers of the type of `states`, large, and with a bias each or none at all."""
    if states.device.type != "cpu" or not copies_run_here(states.dtype):
        return False
    if not all(map(is_plain_linear, projections)):
        return False
    if any(projection.weight.dtype != states.dtype for projection in projections):
        return False
    if len({projection.bias is None for projection in projections}) > 1:
        return False
    return sum(projection.weight.numel() for projection in projections) >= MANY_ENTRIES


@dataclass(frozen=True)
class MatrixCopy:
    """Matrices laid out anew, and their fingerprints then."""

    matrix: torch.Tensor
    fingerprints: list[torch.Tensor]


# By the first of the layers: no part of the model, so never saved, and gone with it.
_COPIES: WeakKeyDictionary[nn.Module, MatrixCopy] = WeakKeyDictionary()


def _current_copy(first: nn.Module, weights: list[torch.Tensor]) -> torch.Tensor:
    """The copy of an earlier search if the matrices are what they were, else a new one."""
    fingerprints = [_fingerprint(weight) for weight in weights]
    kept = _COPIES.get(first)
    if kept is None or not _are_equal(kept.fingerprints, fingerprints):
        matrix = torch.cat(weights) if len(weights) > 1 else weights[0].detach()
        packed = torch.ops.mkldnn._reorder_linear_weight(matrix, ROWS_OF_LAYOUT)
        _COPIES[first] = kept = MatrixCopy(packed, fingerprints)
    return kept.matrix


def _fingerprint(weight: torch.Tensor) -> torch.Tensor:
    """The matrix times random vectors, in a fraction of the time that a copy takes.

    PyTorch's count of changes would not do: PEFT, merging adapters into `weight.data`, changes none. What
    leaves each bit of these products as it is, is lost in the rounding of nearly any other, too: in float32
    one of them tells, in the coarser bfloat16 it takes several. No entry of a vector is near zero, where a
    column could change unseen, and hardly two are alike, whose columns could change places.
    """
    count = 1 if weight.dtype == torch.float32 else VECTORS_OF_HALF
    generator = torch.Generator("cpu").manual_seed(0)
    vectors = torch.randn(count, weight.shape[1], generator=generator, device="cpu", dtype=torch.float32)
    vectors += vectors.sign()
    if count == 1 and len(weight) % 2 == 0:
        return _row_times_halves(vectors, weight)
    return F.linear(vectors.to(weight.dtype), weight)


def _are_equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return len(some) == len(others) and all(
        one.dtype == other.dtype and torch.equal(one, other) for one, other in zip(some, others, strict=True)
    )


def forget_copies(model: nn.Module) -> None:
    """Frees the copies of a model's matrices; its next search makes new ones."""
    for module in model.modules():
        _COPIES.pop(module, None)


@cache
def copies_run_here(dtype: torch.dtype) -> bool:
    """Whether products with copies can be had and are fast: on x86 processors that multiply `dtype`."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return False
    if dtype == torch.bfloat16 and not multiplies_bfloat16():
        return False
    matrix = torch.zeros(1, 1, dtype=dtype, device="cpu")
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(matrix, ROWS_OF_LAYOUT)
        torch.ops.mkldnn._linear_pointwise(matrix, packed, None, "none", [], "")
    except (AttributeError, RuntimeError):  # a PyTorch without oneDNN
        return False
    return True


def project(projection: Any, states: torch.Tensor) -> torch.Tensor:
    """`projection(states)`, (N, B, in) -> (N, B, out), without any copy of the matrix.

    In half precision it is called as it is: other kernels are taken there.
    """
    rows = states.shape[:-1].numel()
    if states.device.type != "cpu" or rows > FEW_ROWS or not is_plain_linear(projection):
        return projection(states)
    weight = projection.weight
    outputs, inputs = weight.shape
    if weight.numel() < MANY_ENTRIES or weight.dtype in HALF_TYPES:
        return projection(states)
    if rows == 1 and outputs % 2 == 0 and inputs <= MANY_INPUTS and weight.dtype == torch.float32:
        return _product_of_one_row(projection, states)
    if rows > 1 and outputs >= inputs:
        return _product_turned_round(projection, states)
    return projection(states)


def _product_of_one_row(projection: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    """A batch of two products, each with half of the matrix: faster than a matrix times a vector."""
    product = _row_times_halves(states.reshape(1, -1), projection.weight).view(*states.shape[:-1], -1)
    return product if projection.bias is None else product.add_(projection.bias)


def _row_times_halves(row: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(1, in) times (out, in) transposed, in two halves of the matrix: (2, out / 2, 1)."""
    # Its strides are those of a transposed row: as a plain column it would be slower than ever.
    return torch.bmm(weight.unflatten(0, (2, -1)), row.t().expand(2, -1, -1))


def _product_turned_round(projection: nn.Linear, states: torch.Tensor) -> torch.Tensor:
    """The matrix times the rows as columns; the result is a transposed view."""
    weight, bias = projection.weight, projection.bias
    columns = states.flatten(0, -2).t()  # (in, N * B)
    turned = weight @ columns if bias is None else torch.addmm(bias[:, None], weight, columns)
    return turned.t().unflatten(0, states.shape[:-1])
