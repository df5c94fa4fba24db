"""The engine of GPUs: `Learner` itself on tensors, all rows or all accounts in one pass.

Axes: N rows, F features, B copies, K labels, W numbers of a copy, Q copies a row.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from app.learner.adaptation import Support
from app.learner.checkpoint import Checkpoint
from app.learner.differentiable.adaptation import Learner, cross_entropy, pad_supports
from app.learner.differentiable.network import Encoded
from app.learner.differentiable.saving import learner_of
from app.learner.engine import LearnedCopies, Rows
from app.learner.features import Features
from app.learner.states import Floats, Ints
from app.learner.transaction import DAY_US


def is_available() -> bool:
    """Whether there is a GPU that PyTorch can use."""
    return torch.cuda.is_available()


def engine_of(checkpoint: Checkpoint, slots: int) -> "BatchedEngine":
    """The engine of a process that serves a checkpoint from a GPU."""
    # What is left to the CPU is small: threads would wait for each other longer than they compute.
    torch.set_num_threads(1)
    learner = learner_of(checkpoint).to("cuda", torch.float64).requires_grad_(False)
    return BatchedEngine(learner, slots)


class BatchedEngine:
    """A learner in float64, and a bank of W numbers a slot on its device.

    `knots` are those of its network, in float32 as the kernels have them, unless others are passed.
    """

    @torch.inference_mode()
    def __init__(self, learner: Learner, slots: int, knots: Tensor | None = None) -> None:
        self._learner = learner
        self._knots = learner.network.knots().float() if knots is None else knots
        # Never written before: memory that no copy has needed yet is not even taken.
        width = learner.kept(learner.unadapted()).shape[1]
        self.bank_BW = torch.empty(slots, width, dtype=torch.float64, device=learner.device)

    @torch.inference_mode()
    def learn(self, supports: Sequence[Support]) -> LearnedCopies:
        features = self._learner.network.encoder.features
        batch = pad_supports(supports, features, np.float64).to(self._learner.device)
        encoded = self._learner.encode(batch.features_BKF, batch.day_BK, self._knots)
        base_BK = self._learner.base_logits(encoded)
        evidence_B, adapted = self._learner.evidence(batch, encoded, base_BK)
        copies = self._learner.followed(adapted, evidence_B, batch)
        served_BK = self._learner.served_logits(encoded, copies, base_BK, earlier=True)
        before_B, after_B = (
            cross_entropy(logit_BK, batch).sum(1) for logit_BK in (base_BK, served_BK)
        )
        figures = evidence_B, before_B, after_B, self._learner.drift(copies)
        return LearnedCopies(
            _array(self._learner.kept(copies)),
            np.array([len(support.is_fraud_K) for support in supports], np.int64),
            *map(_array, figures),
        )

    @torch.inference_mode()
    def put(self, slot_B: Sequence[int], copies_BW: Floats) -> None:
        slot = torch.tensor(slot_B, device=self._learner.device)
        self.bank_BW.index_copy_(0, slot, self._on_device(copies_BW))

    @torch.inference_mode()
    def take(self, slot_N: Ints) -> Floats:
        return _array(self.bank_BW.index_select(0, self._on_device(slot_N)))

    @torch.inference_mode()
    def score(self, rows: Rows, slot_N: Ints) -> Floats:
        return _array(self._served(*self._encoded(rows), self.bank_BW, slot_N))

    @torch.inference_mode()
    def judge(self, rows: Rows, copies_BW: Floats, copy_QN: Ints) -> Floats:
        encoded, copies = self._encoded(rows), self._on_device(copies_BW)
        return np.array([_array(self._served(*encoded, copies, each_N)) for each_N in copy_QN])

    def _encoded(self, rows: Rows) -> tuple[Encoded, Tensor]:
        """N rows, each as the one of an account, and what the base gives them: [N, 1]."""
        features_N1F = self._on_device(rows.features_NF).to(torch.float64)[:, None]
        day_N1 = self._on_device(rows.time_us_N / DAY_US)[:, None]
        encoded = self._learner.encode(features_N1F, day_N1, self._knots)
        # As the rows of one account: the base is the same for all.
        of_one = Encoded(*(part.transpose(0, 1) for part in encoded))
        return encoded, self._learner.base_logits(of_one).T

    def _served(self, encoded: Encoded, base_N1: Tensor, copies_BW: Tensor, copy_N: Ints) -> Tensor:
        copies = self._learner.restored(copies_BW.index_select(0, self._on_device(copy_N)))
        return self._learner.served_logits(encoded, copies, base_N1)[:, 0]

    def _on_device(self, array: Floats | Ints | Features) -> Tensor:
        return torch.from_numpy(array).to(self._learner.device)


def _array(part: Tensor) -> Floats:
    array: Floats = part.cpu().numpy()
    return array
