"""What the guard makes of the signs of a worse shape: the weights of its risk, and what a limit costs.

    python benchmarks/quality.py --methods large-steps --no-examples --first 200 --synthetic 720 --out signs.jsonl
    python benchmarks/guard.py signs.jsonl

Fits a logistic regression to the synthetic objects that the guard's other checks let through, their signs bounded by
their first and last hundredth, and prints bounds and weights; then, for several limits, what would come back if each
tenth of the objects were judged by a fit to the others. Objects 0 to 199, on which the figures are published, take no
part in it.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
from quality import WORSE
from scipy.optimize import minimize
from scipy.special import expit

from refine_batch.refinement.risk import Signs

NAMES = [field.name for field in fields(Signs)]
LIMITS = (0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3, 1.0)
PENALTY = 0.5


def fitted(signs: np.ndarray, worse: np.ndarray) -> np.ndarray:
    """(k + 1,) weights and bias, in the signs' own units; the squares of the standardised weights cost `PENALTY`."""
    mean, spread = signs.mean(axis=0), signs.std(axis=0) + 1e-12
    standard = (signs - mean) / spread
    signed = np.where(worse, 1.0, -1.0)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = signed * (standard @ w[:-1] + w[-1])
        slope = -signed * expit(-margin)
        gradient = np.append(standard.T @ slope + 2 * PENALTY * w[:-1], slope.sum())
        return np.logaddexp(0.0, -margin).sum() + PENALTY * (w[:-1] ** 2).sum(), gradient

    found = minimize(loss, np.zeros(signs.shape[1] + 1), jac=True, method="L-BFGS-B").x
    weights = found[:-1] / spread
    return np.append(weights, found[-1] - weights @ mean)


def estimated(weights: np.ndarray, signs: np.ndarray) -> np.ndarray:
    return expit(signs @ weights[:-1] + weights[-1])


def by_others(signs: np.ndarray, worse: np.ndarray, parts: int = 10) -> np.ndarray:
    """Each object's risk by a fit to the objects outside its part."""
    part = np.random.default_rng(0).permutation(len(signs)) % parts
    risks = np.empty(len(signs))
    for k in range(parts):
        risks[part == k] = estimated(fitted(signs[part != k], worse[part != k]), signs[part == k])
    return risks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lines", type=Path, nargs="+", help="files that quality.py --out wrote")
    arguments = parser.parse_args()
    lines = [json.loads(text) for path in arguments.lines for text in path.read_text().splitlines()]
    lines = [line for line in lines if line["status"] != "failed" and line["before"]["chamfer_l2"] is not None]
    before, after = (np.array([line[when]["chamfer_l2"] for line in lines]) for when in ("before", "after"))
    judged = np.array([line["objection"] is None for line in lines])
    signs = np.array([[line["signs"][name] for name in NAMES] for line, use in zip(lines, judged, strict=True) if use])
    bounds = np.percentile(signs, [1, 99], axis=0)
    signs = signs.clip(*bounds)
    worse = after > WORSE * before
    weights = fitted(signs, worse[judged])
    print(f"{len(lines)} objects, {judged.sum()} let through by the other checks, {worse[judged].sum()} of them worse")
    print(", ".join(f"{name}={w:.3g}" for name, w in zip([*NAMES, "bias"], weights, strict=True)))
    print(", ".join(f"{name} {low:.3g} to {high:.3g}" for name, low, high in zip(NAMES, *bounds, strict=True)))
    print("| limit | held back, besides | Chamfer-L2 mean | worse |\n|---|---|---|---|")
    risks = np.full(len(lines), math.inf)
    risks[judged] = by_others(signs, worse[judged])
    for limit in LIMITS:
        back = np.where(risks > limit, before, after)
        held = (judged & (risks > limit)).mean()
        print(f"| {limit} | {held:.0%} | {back.mean():.2f} | {(back > WORSE * before).mean():.1%} |")


if __name__ == "__main__":
    main()
