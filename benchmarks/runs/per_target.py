"""Several targets for a learner of one: fitted anew for each, on the genes that have it."""

from __future__ import annotations

from typing import Any

from benchmarks.runs.plans import LearnerPlan
from learners.batch import FeatureBatch
from learners.per_target import PerTarget


def learner_for(plan: LearnerPlan, batch: FeatureBatch) -> Any:
    """A fresh learner; one per target where there are several and it predicts only one."""
    count = batch.require_targets().shape[1]
    if count == 1 or plan.info.multi_output:
        return plan.make()
    return PerTarget([plan.make() for _ in range(count)])
