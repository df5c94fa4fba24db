"""The same network, fine-tuned for each account by plain gradient descent.

Axes: B accounts, K support rows, Q query rows, A scored rows.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from app.learner.differentiable.adaptation import AdaptedHead, Learner, SupportBatch, pad_supports
from app.learner.differentiable.network import Head, Hidden
from app.learner.states import Floats
from app.training.episodes import Episode, Rows, served
from app.training.evaluate import EncodedRows, alike
from app.training.rivals.tuning import Lesson, Score, Tuned


class Descent(NamedTuple):
    """The steps, the one size of them all, and whether the network's input shows the labels."""

    steps: int
    size: float
    context: bool


class EncodedEpisodes(NamedTuple):
    """What was scored, as episodes, and all rows of it encoded."""

    rows: Rows
    episodes: list[Episode]
    encoded: EncodedRows


class FineTuned(Tuned[Descent, EncodedEpisodes]):
    """The learner's network and first head; the head descends on the account's labels.

    Nothing of the descent is learned: one step size for every layer and step, found by trying, on
    fewer held-out rows than other rivals because each account takes a descent.
    """

    name, title, reads_labels = "fine_tuned", "Fine-tuned per account", True
    held_out_legitimate = 5_000
    settings = (
        Descent(1, 0.1, context=True),
        Descent(1, 1.0, context=True),
        Descent(5, 0.01, context=True),
        Descent(5, 0.1, context=True),
        Descent(5, 0.3, context=True),
        Descent(20, 0.01, context=True),
        Descent(1, 0.1, context=False),
        Descent(5, 0.01, context=False),
    )

    def prepare(self, lesson: Lesson) -> None:
        self._learner = lesson.learner

    @torch.inference_mode()
    def inputs(self, rows: Rows, scored: NDArray[np.intp], limit: int) -> EncodedEpisodes:
        episodes = list(served(rows, scored, limit))
        needed = np.unique(np.concatenate([scored, *(episode.support for episode in episodes)]))
        return EncodedEpisodes(rows, episodes, EncodedRows(self._learner, rows, needed))

    def build(
        self, setting: Descent, lesson: Lesson, held_out: EncodedEpisodes
    ) -> Score[EncodedEpisodes]:
        @torch.inference_mode()
        def score(inputs: EncodedEpisodes) -> Floats:
            score_A = np.empty(sum(len(episode.query) for episode in inputs.episodes))
            for places, group in alike(inputs.episodes):
                logits = _descend(self._learner, setting, inputs, group)
                for place, logit_Q in zip(places, logits, strict=True):
                    score_A[place] = logit_Q
            return score_A

        return score


def _descend(
    learner: Learner, setting: Descent, inputs: EncodedEpisodes, group: list[Episode]
) -> list[NDArray[np.float32]]:
    """The log-odds of each episode's query rows."""
    rows, _, encoded = inputs
    supports = [rows.support(episode.support) for episode in group]
    batch = pad_supports(supports, len(rows.kinds)).to(learner.device)
    network, unlabelled = learner.network, learner.base(len(group))
    labelled = encoded.take([episode.support for episode in group])
    context = (
        network.context(labelled, batch.legitimate_BK, batch.fraud_BK)
        if setting.context
        else unlabelled.context
    )
    # Else each label would be among what it is read by.
    hidden = network.hidden(labelled, context, earlier=True)
    head = _descended(unlabelled.head, hidden, batch, setting)
    queries = encoded.take([episode.query for episode in group])
    logit_BQ = learner.logits(queries, AdaptedHead(context, head)).cpu().numpy()
    return [row_Q[: len(episode.query)] for row_Q, episode in zip(logit_BQ, group, strict=True)]


def _descended(head: Head, hidden: Hidden, batch: SupportBatch, setting: Descent) -> Head:
    """Each account's head after the steps down the mean cross-entropy of its labels."""
    labelled_BK = batch.legitimate_BK + batch.fraud_BK
    weight_BK = labelled_BK / labelled_BK.sum(1, keepdim=True).clamp_min(1.0)
    for _ in range(setting.steps):
        gradient = head.gradient(hidden, batch.fraud_BK, weight_BK)
        stepped = {name: getattr(head, name) - setting.size * g for name, g in gradient.items()}
        head = head._replace(**stepped)
    return head
