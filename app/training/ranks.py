"""Training on several processes: what is summed over them, and what each knows of the others.

They are started by `torchrun`, on one machine or several. Each has a share of the accounts, the
same weights, and draws the same episodes; it computes those of its own accounts. A process on its
own is the case of one rank, which waits for nobody.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a training, and which of them this is, from 0.

    Every method but `share` is to be called by all ranks, in the same order.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    def share(self, count: int) -> slice:
        """Of so many things in order those of this rank: as many as of any other, but for one."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks."""
        if self.size == 1:
            return values
        summed = values.detach().to(self.device, copy=True)
        distributed.all_reduce(summed)
        return summed.to(values.device)

    def total(self, *counts: float) -> list[float]:
        """The sum of each over all ranks, in double precision."""
        total: list[float] = self.sum(torch.tensor(counts, dtype=torch.float64)).tolist()
        return total

    def before(self, count: int) -> tuple[int, int]:
        """How many things earlier ranks have, where this has `count`, and all of them together."""
        counts = self.gather(count)
        return sum(counts[: self.rank]), sum(counts)

    def gather(self, value: Any) -> list[Any]:
        """What each rank has, by rank, at every rank."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def collect(self, value: Any) -> list[Any]:
        """What each rank has, by rank, at rank 0; the others get nothing."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size if self.rank == 0 else []
        distributed.gather_object(value, values or None)
        return values

    def copy_first(self, module: torch.nn.Module) -> None:
        """Let all ranks have the parameters and buffers of rank 0."""
        if self.size > 1:
            for tensor in module.state_dict().values():
                distributed.broadcast(tensor, 0)

    def sum_gradients(self, module: torch.nn.Module) -> None:
        """Let every rank have the sums of the gradients over all ranks."""
        if self.size == 1:
            return
        gradients = [
            parameter.grad for parameter in module.parameters() if parameter.grad is not None
        ]
        # One exchange for all of them: each takes as long to begin as to carry thousands of values.
        summed = self.sum(torch.cat([gradient.flatten() for gradient in gradients]))
        first = 0
        for gradient in gradients:
            gradient.copy_(summed[first : first + gradient.numel()].view_as(gradient))
            first += gradient.numel()


ALONE = Ranks()


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The ranks that `torchrun` has started, until the end; a process of its own where it has not.

    They exchange by NCCL where `device` is `cuda`, which is then this rank's own GPU, else by Gloo.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks(device=device)
        return
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Ranks(distributed.get_rank(), size, device)
    finally:
        distributed.destroy_process_group()
