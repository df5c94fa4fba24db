"""Thieves who come back: to the same account, with what they have, for what they bought before.

Crime returns to its victims, soon and by the same hands (Farrell & Pease 1993, Home Office Crime
Prevention Unit paper 46; Johnson et al. 2007, Journal of Quantitative Criminology 23:201). In the
real files that are at hand between a third and nine in ten of an account's payments after its first
fraud are frauds. How often and when is a choice.

Axes: N transactions, E episodes (an account and a kind of fraud), V visits, X rows of visits.
"""

from dataclasses import replace

import numpy as np

from app.simulator.events import AUTHORISED, DAY_SECONDS, DECLINED, Events, World, log_uniform
from app.simulator.frauds.thieves import RETURN

# After each visit another one, between six hours and six weeks later, as often as not soon.
RETURNS_SHARE = 0.65
GAP_DAYS = (0.25, 42.0)
MOST_VISITS = 5
MOST_ROWS = 6
DECLINED_SHARE = 0.35


def returning(rng: np.random.Generator, world: World, frauds: Events) -> Events:
    """What thieves who come back do: at the same merchants, with the same devices and cards."""
    pair_N = frauds.account_N * 100 + frauds.kind_N
    episode_E, episode_N = np.unique(pair_N, return_inverse=True)
    end_E = np.zeros(len(episode_E), np.int64)
    np.maximum.at(end_E, episode_N, frauds.second_N)
    visits_E = np.minimum(rng.geometric(1 - RETURNS_SHARE, len(episode_E)) - 1, MOST_VISITS)
    episode_V = np.repeat(np.arange(len(episode_E)), visits_E)
    gap_V = log_uniform(rng, *GAP_DAYS, len(episode_V)) * DAY_SECONDS
    # Each visit counts from the one before.
    since_V = np.cumsum(gap_V)
    first_V = np.searchsorted(episode_V, episode_V)
    since_V -= since_V[first_V] - gap_V[first_V]

    # A few of the rows of the first visit, at random, with which the episode's rows are chosen.
    order_N = np.lexsort((rng.random(len(frauds)), episode_N))
    size_E = np.bincount(episode_N, minlength=len(episode_E))
    begin_E = np.cumsum(size_E) - size_E
    rows_V = np.minimum(rng.integers(1, MOST_ROWS + 1, len(episode_V)), size_E[episode_V])
    visit_X = np.repeat(np.arange(len(episode_V)), rows_V)
    rank_X = np.arange(len(visit_X)) - np.repeat(np.cumsum(rows_V) - rows_V, rows_V)
    again = frauds.take(order_N[begin_E[episode_V[visit_X]] + rank_X])
    second_X = end_E[episode_V[visit_X]] + since_V[visit_X].astype(np.int64)
    second_X += rng.integers(0, 3600, len(visit_X))
    declined_X = rng.random(len(visit_X)) < DECLINED_SHARE
    again = replace(
        again,
        second_N=second_X,
        kind_N=np.full(len(visit_X), RETURN),
        amount_N=again.amount_N * rng.lognormal(0, 0.2, len(visit_X)),
        status_N=np.where(declined_X, DECLINED, AUTHORISED),
    )
    return again.take(second_X < world.days * DAY_SECONDS)
