"""Checkpoints of earlier versions give the scores that they gave then.

What their network computed is written out here in plain sums, in float64, as it was defined before
labels were read payment by payment: six counts valued at the newest label, an inner loss that is a
mean, labelled rows that see all labels, themselves among them, and a surprise by spreads.

Axes: N rows, K labelled rows, F features, Z quantities, O of them the payment's own, C codes,
V known values, T edges, J counts of labels, M members, H hidden units of a member, U = M * H.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from app.learner.adaptation import LARGEST_MOVE, PARTS, Support
from app.learner.algorithms import Algorithm
from app.learner.checkpoint import CheckpointError, Files, PastCheckpoint
from app.learner.engine import Rows
from app.learner.features import FeatureSet, Kind
from app.learner.network import Weights
from app.learner.scorer import Judge, PastJudge
from app.learner.spec import DatasetSpec
from app.learner.states import Floats
from app.learner.transaction import DAY_US
from tests.checkpoints import signed

MEMBERS, HIDDEN, BINS, VALUES = 4, 32, 40, 32
UNITS = MEMBERS * HIDDEN
TODAY_US = 20_000 * DAY_US
# A vocabulary has places that it leaves empty.
CODES_KNOWN = 5
HEADS = {
    "anil": ("out_weight_MH", "out_bias_M"),
    "maml": ("inner_weight_MHH", "inner_bias_MH", "out_weight_MH", "out_bias_M"),
}
BEFORE_ENTITIES = (
    "log_amount",
    "attribute_reason_code",
    "attribute_reason_code_missing",
    "category_code",
    "account_count_1d",
    "channel_code",
    "account_amount_z_30d",
    "merchant_fraud_share_30d",
    "account_attempts_1h",
)


@dataclass(frozen=True)
class Version:
    """Features as an earlier version had them, and what it took each of them for."""

    names: tuple[str, ...]
    kinds: tuple[Kind, ...]
    columns: dict[str, str]

    def positions(self, *kinds: Kind) -> list[int]:
        return [f for f, kind in enumerate(self.kinds) if kind in kinds]

    @property
    def quantities(self) -> list[int]:
        return self.positions("own", "history", "amount", "pace", "refused", "used")

    @property
    def own(self) -> list[int]:
        """Positions among the quantities."""
        return [z for z, f in enumerate(self.quantities) if self.kinds[f] == "own"]

    @property
    def surprising(self) -> list[int]:
        surprising = self.positions("amount", "pace", "refused")
        return [z for z, f in enumerate(self.quantities) if f in surprising]


def before_entities() -> Version:
    """Merchants had a column, and amounts and paces were like any other quantity."""
    kinds: tuple[Kind, ...]
    kinds = ("own", "own", "own", "code", "history", "code", "history", "history", "history")
    return Version(BEFORE_ENTITIES, kinds, {"amount": "amount", "merchant": "merchant_id"})


def of_definition_3() -> Version:
    """Features of today, but for identities; one number is called a code."""
    described = DatasetSpec.load("simulated").model_dump()
    described["numeric"] = {"reason_code": "reason"}
    features = FeatureSet(DatasetSpec.model_validate(described))
    assert "attribute_reason_code" in features.names
    pairs = zip(features.names, features.kinds, strict=True)
    kept = [(name, kind) for name, kind in pairs if kind != "identity"]
    names, kinds = zip(*kept, strict=True)
    assert {"own", "code", "history", "amount", "pace", "refused", "used"} == set(kinds)
    return Version(names, kinds, {"amount": "amount"})


VERSIONS: dict[str, Callable[[], Version]]
VERSIONS = {"before entities": before_entities, "definition 3": of_definition_3}


def random_weights(version: Version, algorithm: Algorithm) -> dict[str, np.ndarray[Any, Any]]:
    """Telling weights in the shapes of then."""
    rng = np.random.default_rng(7)
    quantities, codes = len(version.quantities), len(version.positions("code"))
    edges_ZT = np.sort(rng.normal(1, 1.5, (quantities, BINS + 1)), axis=1)
    # Steps, one of them at the end of a quantity, and a quantity that was always the same.
    edges_ZT[:, 8], edges_ZT[0, -3:], edges_ZT[-1] = edges_ZT[:, 7], edges_ZT[0, -1], 1.0
    known_CV = np.full((codes, VALUES), -1.0)
    known_CV[:, :CODES_KNOWN] = np.arange(1, 1 + CODES_KNOWN)
    scale = 0.3 / quantities**0.5
    network = {
        "encoder.mean_Z": rng.normal(1, 0.2, quantities),
        "encoder.spread_Z": rng.uniform(0.5, 2, quantities),
        "encoder.edges_ZT": edges_ZT,
        "encoder.known_CV": known_CV,
        "rises_ZTU": rng.normal(0, scale, (quantities, BINS, UNITS)),
        "wide_rises_ZTM": rng.normal(0, scale / 3, (quantities, BINS, MEMBERS)),
        "values_VU": rng.normal(0, 0.2, (codes * (VALUES + 1), UNITS)),
        "scaled_ZU": rng.normal(0, scale, (quantities, UNITS)),
        "bias_U": rng.normal(0, 0.2, UNITS),
        "relation.weight": rng.normal(0, 0.2, (UNITS, len(version.own) + 6)),
        "inner_weight_MHH": rng.normal(0, 0.15, (MEMBERS, HIDDEN, HIDDEN)),
        "inner_bias_MH": rng.normal(0, 0.1, (MEMBERS, HIDDEN)),
        "out_weight_MH": rng.normal(0, 0.15, (MEMBERS, HIDDEN)),
        "out_bias_M": rng.normal(0, 0.1, MEMBERS),
    }
    layers = {
        "inner_weight_MHH": "weight_BMHH",
        "inner_bias_MH": "bias_BMH",
        "out_weight_MH": "out_weight_BMH",
        "out_bias_M": "out_bias_BM",
    }
    sizes = {
        f"log_step_sizes.{layers[name]}": rng.uniform(
            np.log(0.02), np.log(0.2), (5, *[1] * network[name].ndim)
        )
        for name in HEADS[algorithm]
    }
    gate = {"gate.trust": np.array(0.5), "gate.heed": np.array(0.7)}
    arrays = {**gate, **{f"network.{name}": array for name, array in network.items()}, **sizes}
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}


def files_of(version: Version, algorithm: Algorithm, weights: Weights) -> Files:
    described = {
        "format": 2,
        "name": "past",
        "spec": {"name": "past", "columns": version.columns},
        "features": list(version.names),
        "features_digest": "0123456789abcdef",
        "algorithm": algorithm,
        "calibration": {"slope": 0.8, "shift": -1.5},
        "decisions": {"review": 0.1, "decline": 0.3},
    }
    return signed(described, save(dict(weights)))


@dataclass(frozen=True)
class Past:
    """The formulas of then."""

    version: Version
    algorithm: Algorithm
    weights: dict[str, Tensor]

    def encoded(self, features_NF: Floats) -> tuple[Tensor, Tensor, Tensor]:
        """Of rows what enters the units, what is added to the log-odds, and own quantities."""
        w = self.weights
        quantity_NZ = torch.from_numpy(features_NF[:, self.version.quantities])
        edges_ZT, mean_Z, spread_Z = (w[f"encoder.{n}"] for n in ("edges_ZT", "mean_Z", "spread_Z"))
        rises_ZTX = torch.cat([w["rises_ZTU"], w["wide_rises_ZTM"]], dim=2)
        # Knots were in single precision.
        knots_ZTX = torch.cat([torch.zeros_like(rises_ZTX[:, :1]), rises_ZTX.cumsum(1)], dim=1)
        knots_ZTX = knots_ZTX.float().double()
        read_NX = torch.zeros(len(features_NF), UNITS + MEMBERS).double()
        for n, quantity_Z in enumerate(quantity_NZ):
            for z, value in enumerate(quantity_Z):
                bin_ = int((edges_ZT[z, 1:-1] <= value).sum())
                first, last = edges_ZT[z, bin_], edges_ZT[z, bin_ + 1]
                share = ((value - first) / (last - first).clamp_min(1e-6)).clamp(0, 1)
                read_NX[n] += (1 - share) * knots_ZTX[z, bin_] + share * knots_ZTX[z, bin_ + 1]
        scaled_NZ = ((quantity_NZ - mean_Z) / spread_Z).clamp(-8, 8)
        units_NU = read_NX[:, :UNITS] + scaled_NZ @ w["scaled_ZU"] + w["bias_U"]
        values_CVU = w["values_VU"].unflatten(0, (-1, VALUES + 1))
        for c, f in enumerate(self.version.positions("code")):
            for n, code in enumerate(features_NF[:, f]):
                place = int(code) - 1 if 1 <= code <= CODES_KNOWN else VALUES
                units_NU[n] += values_CVU[c, place]
        over_NZ = (quantity_NZ - edges_ZT[:, -1]).clamp_min(0) / spread_Z
        beyond_N = 0.25 * over_NZ[:, self.version.surprising].sum(1)
        wide_NM = read_NX[:, UNITS:] + beyond_N[:, None]
        return units_NU, wide_NM, scaled_NZ[:, self.version.own]

    def related(self, own_NO: Tensor, day_N: Tensor, context: tuple[Tensor, ...]) -> Tensor:
        """What labels add to rows: own quantities against usual ones, and counts that fade."""
        mean_O, spread_O, newest_day, count_J = context
        half_life_J = torch.tensor([torch.inf, torch.inf, 30, 30, 7, 7]).double()
        age_N1 = (day_N - newest_day).clamp_min(0)[:, None]
        count_NJ = count_J * 2 ** (-age_N1 / half_life_J)
        relative_NO = ((own_NO - mean_O) / spread_O).clamp(-8, 8)
        return torch.cat([relative_NO, count_NJ.log1p()], dim=1)

    def context(self, own_KO: Tensor, day_K: Tensor, fraud_K: Tensor) -> tuple[Tensor, ...]:
        legitimate_KO = own_KO[fraud_K == 0]
        weight = len(legitimate_KO) + 2
        mean_O = legitimate_KO.sum(0) / weight
        spread_O = (((legitimate_KO - mean_O) ** 2).sum(0) + 2).div(weight).sqrt()
        newest_day = day_K.max() if len(day_K) else torch.zeros(()).double()
        count_J = torch.stack(
            [
                (2 ** (-(newest_day - day_K) / half_life) * (fraud_K == label)).sum()
                for half_life in (torch.inf, 30.0, 7.0)
                for label in (0, 1)
            ]
        )
        return mean_O, spread_O, newest_day, count_J

    def units(self, static_NU: Tensor, related_NR: Tensor) -> Tensor:
        entering_NU = static_NU + related_NR @ self.weights["relation.weight"].T
        return entering_NU.relu().unflatten(1, (MEMBERS, HIDDEN))

    def member_logits(self, units_NMH: Tensor, wide_NM: Tensor, head: dict[str, Tensor]) -> Tensor:
        inner_NMH = torch.einsum("nmh,mgh->nmg", units_NMH, head["inner_weight_MHH"])
        summed_NMH = (inner_NMH + head["inner_bias_MH"]).relu() + units_NMH
        return (summed_NMH * head["out_weight_MH"]).sum(2) + head["out_bias_M"] + wide_NM

    def head(self) -> dict[str, Tensor]:
        return {name: self.weights[name] for name in HEADS["maml"]}

    def adapted(self, units_KMH: Tensor, wide_KM: Tensor, fraud_K: Tensor) -> dict[str, Tensor]:
        """Five steps down the mean cross-entropy of each member."""
        head, layers = self.head(), HEADS[self.algorithm]
        sizes = {name: array for name, array in self.weights.items() if "log_step" in name}
        for step in range(5 if len(fraud_K) else 0):
            moving = {name: head[name].detach().requires_grad_() for name in layers}
            logit_KM = self.member_logits(units_KMH, wide_KM, {**head, **moving})
            loss_KM = binary_cross_entropy_with_logits(
                logit_KM, fraud_K[:, None].expand_as(logit_KM), reduction="none"
            )
            slopes = torch.autograd.grad(loss_KM.mean(0).sum(), list(moving.values()))
            for name, size, slope in zip(layers, sizes.values(), slopes, strict=True):
                head[name] = (moving[name] - size[step].exp() * slope).detach()
        return head

    def base(self, encoded: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        static_NU, wide_NM, own_NO = encoded
        nothing_NJ = torch.zeros(len(own_NO), 6).double()
        units_NMH = self.units(static_NU, torch.cat([own_NO, nothing_NJ], dim=1))
        return self.member_logits(units_NMH, wide_NM, self.head()).mean(1)

    def learned(
        self, encoded: tuple[Tensor, Tensor, Tensor], day_K: Tensor, fraud_K: Tensor, seen_K: Tensor
    ) -> tuple[dict[str, Tensor], tuple[Tensor, ...], Tensor]:
        """The head and the context of the labels that are seen, and its move on all the rows."""
        static_KU, wide_KM, own_KO = encoded
        context = self.context(own_KO[seen_K], day_K[seen_K], fraud_K[seen_K])
        units_KMH = self.units(static_KU, self.related(own_KO, day_K, context))
        head = self.adapted(units_KMH[seen_K], wide_KM[seen_K], fraud_K[seen_K])
        logit_K = self.member_logits(units_KMH, wide_KM, head).mean(1)
        move_K = (logit_K - self.base(encoded)).clamp(-LARGEST_MOVE, LARGEST_MOVE)
        return head, context, move_K

    def judged(self, support: Support, rows: Rows) -> tuple[list[float], list[float]]:
        """The probabilities of rows, and the figures of the copy."""
        day_K, fraud_K = (
            torch.from_numpy(part).double()
            for part in (support.time_us_K / DAY_US, support.is_fraud_K)
        )
        labelled, labels = self.encoded(support.features_KF.astype(np.float64)), len(fraud_K)
        base_K = self.base(labelled)
        evidence = 0.0
        for part in range(PARTS if labels else 0):
            is_out_K = torch.arange(labels) % PARTS == part
            *_, move_K = self.learned(labelled, day_K, fraud_K, ~is_out_K)
            gained_K = losses(base_K, fraud_K) - losses(base_K + move_K, fraud_K)
            evidence += float(gained_K[is_out_K].sum())
        head, context, move_K = self.learned(
            labelled, day_K, fraud_K, torch.ones(labels, dtype=torch.bool)
        )
        trust, heed = (float(self.weights[f"gate.{name}"]) for name in ("trust", "heed"))
        weight = float(1 / (1 + np.exp(-(trust + heed * evidence)))) if labels else 0.0
        weight = weight if weight >= 0.02 else 0.0

        encoded = self.encoded(rows.features_NF.astype(np.float64))
        day_N = torch.from_numpy(rows.time_us_N / DAY_US)
        units_NMH = self.units(encoded[0], self.related(encoded[2], day_N, context))
        base_N = self.base(encoded)
        copy_N = self.member_logits(units_NMH, encoded[1], head).mean(1)
        logit_N = base_N + weight * (copy_N - base_N).clamp(-LARGEST_MOVE, LARGEST_MOVE)
        before = float(losses(base_K, fraud_K).mean()) if labels else 0.0
        after = float(losses(base_K + weight * move_K, fraud_K).mean()) if labels else 0.0
        layers = [(head[name], self.weights[name]) for name in HEADS[self.algorithm]]
        moved = sum(float((own - base).square().sum()) for own, base in layers)
        drift = (moved / sum(float(base.square().sum()) for _, base in layers)) ** 0.5
        probability_N = (0.8 * logit_N - 1.5).sigmoid()
        return probability_N.tolist(), [weight, evidence, before, after, drift]


def losses(logit_K: Tensor, fraud_K: Tensor) -> Tensor:
    return softplus(logit_K) - logit_K * fraud_K


def random_features(version: Version, rng: np.random.Generator, size: int) -> np.ndarray:
    """Usual values and far ones; codes that are known, and others."""
    features_NF = rng.normal(1, 1.5, (size, len(version.names)))
    features_NF[rng.random(features_NF.shape) < 0.05] *= 10
    codes = version.positions("code")
    features_NF[:, codes] = rng.integers(0, CODES_KNOWN + 3, (size, len(codes)))
    return features_NF.astype(np.float32)


def judge_of(files: Files) -> Judge:
    return PastJudge(PastCheckpoint.of(files, Path("past")))


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> Version:
    return VERSIONS[request.param]()


def test_the_kinds_of_past_features_are_read_from_their_names(version: Version) -> None:
    files = files_of(version, "anil", random_weights(version, "anil"))
    assert PastCheckpoint.of(files, Path("past")).kinds == version.kinds


@pytest.mark.parametrize("algorithm", ["anil", "maml"])
@pytest.mark.parametrize("labels", [0, 1, 5, 32])
def test_a_past_checkpoint_scores_and_learns_as_it_did_then(
    version: Version, algorithm: Algorithm, labels: int
) -> None:
    """Labels of one moment among them, and rows that are older than the newest."""
    rng = np.random.default_rng(labels)
    weights = random_weights(version, algorithm)
    age_us_K = np.sort(rng.integers(0, 40, labels)) * DAY_US
    support = Support(
        random_features(version, rng, labels), TODAY_US - age_us_K, rng.random(labels) < 0.4
    )
    rows = Rows(random_features(version, rng, 12), TODAY_US + rng.integers(-20, 60, 12) * DAY_US)
    judge = judge_of(files_of(version, algorithm, weights))
    [(copy, decisions)] = judge.judge([support], [rows], judge.thresholds)
    past = {
        name.removeprefix("network."): torch.from_numpy(a).double() for name, a in weights.items()
    }
    probabilities, figures = Past(version, algorithm, past).judged(support, rows)
    assert [decision.probability for decision in decisions] == pytest.approx(
        probabilities, rel=0, abs=2e-9
    )
    assert [
        copy.weight,
        copy.evidence,
        copy.loss_before or 0.0,
        copy.loss_after or 0.0,
        copy.drift,
    ] == pytest.approx(figures, abs=1e-9)
    assert np.std(probabilities) > 0.003
    assert (copy.weight > 0) == (labels > 0)


def damaged(weights: dict[str, np.ndarray], change: str) -> dict[str, np.ndarray]:
    relation = "network.relation.weight"
    match change:
        case "no relation":
            return {name: array for name, array in weights.items() if name != relation}
        case "a relation without axes":
            return {**weights, relation: np.array(1.0, np.float32)}
        case "a narrow relation":
            return {**weights, relation: weights[relation][:, :3].copy()}
        case _:
            return {**weights, "network.bias_U": weights["network.bias_U"][1:].copy()}


@pytest.mark.parametrize(
    "change", ["no relation", "a relation without axes", "a narrow relation", "a narrow bias"]
)
def test_arrays_of_other_shapes_are_refused(version: Version, change: str) -> None:
    weights = damaged(random_weights(version, "anil"), change)
    with pytest.raises(CheckpointError, match="do not fit the network"):
        PastCheckpoint.of(files_of(version, "anil", weights), Path("past"))


def test_a_network_that_reads_labels_payment_by_payment_is_none_of_the_past(
    version: Version,
) -> None:
    weights = random_weights(version, "anil")
    weights["network.wide_relation_IM"] = np.zeros((1, MEMBERS), np.float32)
    with pytest.raises(CheckpointError, match="another version"):
        PastCheckpoint.of(files_of(version, "anil", weights), Path("past"))
