"""A learner of learners: weights against an oracle, families kept apart, what it gains and costs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from featurestore.errors import InputError, UnknownNameError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.members import Member, members_text, parse_members
from learners.registry import make_learner
from learners.simulated import simulate
from learners.stack import Stack, inner_folds

BUDGET = Budget(threads=1)


def planted(seed: int = 0, genes: int = 600, *, noise: float = 0.5, targets: int = 1):
    """Labels that follow from two features in equal parts; a third tells nothing."""
    rng = np.random.default_rng(seed)
    values = {name: rng.normal(size=(genes, 12)).astype(np.float32) for name in "abz"}
    weight = rng.normal(size=(2, 12, targets))
    signal = values["a"] @ weight[0] + values["b"] @ weight[1]
    labels = signal / signal.std(axis=0) + rng.normal(0, noise, (genes, targets))
    rows = np.arange(genes, dtype=np.int64)
    family = rng.integers(0, genes // 4, genes)
    whole = FeatureBatch(
        {name: Block(ArraySource(x), rows) for name, x in values.items()},
        gene=np.array([f"g{i}" for i in rows]),
        species=np.repeat("s", genes),
        family=np.array([f"f{i}" for i in family]),
        targets=labels,
        target_names=tuple(f"y{i}" for i in range(targets)),
    )
    sides = [family % 10 < 6, family % 10 == 6, family % 10 > 6]
    return [whole.take(np.flatnonzero(side).astype(np.int64)) for side in sides]


def score(learner, train, valid, test) -> float:
    learner.fit(train, valid, seed=1, budget=BUDGET)
    return r2_score(test.require_targets(), learner.predict(test.without_targets()))


def only(batch: FeatureBatch, name: str) -> FeatureBatch:
    return FeatureBatch(
        {name: batch.blocks[name]}, batch.gene, batch.species, batch.family, targets=batch.targets
    )


@pytest.mark.parametrize("seed", range(3))
def test_two_features_that_complete_each_other_beat_either(seed):
    sides = planted(seed)
    alone = {
        name: score(make_learner("ridge"), *(only(side, name) for side in sides)) for name in "ab"
    }
    together = score(Stack(of="ridge@a,ridge@b"), *sides)
    assert together > max(alone.values()) + 0.15
    # Nearly all there is: labels have variance 1.25, noise 0.25.
    assert together > 0.9 * (1 / 1.25)


@pytest.mark.parametrize("seed", range(3))
def test_a_member_that_knows_nothing_costs_next_to_nothing(seed):
    sides = planted(seed)
    best = score(make_learner("ridge"), *(only(side, "a") for side in sides))
    stack = Stack(of="ridge@a,ridge@z,knn@z")
    assert score(stack, *sides) > best - 0.02
    assert (stack.weight[1:] < 0.3).all()
    assert stack.weight[0, 0] > 0.8
    assert (stack.weight >= 0).all()


def test_weights_are_those_of_sklearn_on_predictions_of_unseen_families():
    train, valid, test = planted(4)
    members = json.dumps(
        [{"learner": "ridge", "features": f, "params": {"penalty": 30.0}} for f in "ab"]
    )
    stack = Stack(of=members, folds=4)
    stack.fit(train, valid, seed=7, budget=BUDGET)
    fold, y = inner_folds(train, 4, 7), train.targets[:, 0]
    unseen, refitted = np.empty((len(train), 2)), np.empty((len(test), 2))
    for column, name in enumerate("ab"):
        x, v, t = (side.blocks[name].read().astype(float) for side in (train, valid, test))

        def predict(here, there, x=x, v=v):
            scale = StandardScaler().fit(x[here])  # as ridge does: training rows scale, both fit
            both = np.concatenate([scale.transform(x[here]), scale.transform(v)])
            model = SklearnRidge(alpha=30.0).fit(both, np.r_[y[here], valid.targets[:, 0]])
            return model.predict(scale.transform(there))

        for k in range(4):
            unseen[fold == k, column] = predict(fold != k, x[fold == k])
        refitted[:, column] = predict(np.ones(len(train), bool), t)
    oracle = LinearRegression(positive=True).fit(unseen, y)
    np.testing.assert_allclose(stack.weight[:, 0], oracle.coef_, rtol=1e-4)
    found = stack.predict(test.without_targets())[:, 0]
    np.testing.assert_allclose(found, oracle.predict(refitted), rtol=1e-4, atol=1e-5)
    told = stack.learned
    assert told["rmse"] == pytest.approx(
        np.sqrt(((oracle.predict(unseen) - y) ** 2).mean()), rel=1e-4
    )
    assert [one["member"] for one in told["members"]] == [str(m) for m in stack.members]
    assert told["members"][0]["rmse"] == pytest.approx(
        np.sqrt(((unseen[:, 0] - y) ** 2).mean()), rel=1e-4
    )


def test_no_family_stands_on_both_sides_of_an_inner_fold():
    train, *_ = planted(0)
    fold = inner_folds(train, 5, 0)
    assert set(fold) == set(range(5))
    for family in set(train.family):
        assert len(set(fold[train.family == family])) == 1
    counts = np.bincount(fold)
    assert counts.max() - counts.min() <= max(np.unique(train.family, return_counts=True)[1])
    order = np.random.default_rng(0).permutation(len(train)).astype(np.int64)
    np.testing.assert_array_equal(inner_folds(train.take(order), 5, 0), fold[order])
    assert (inner_folds(train, 5, 1) != fold).any()
    one = train.take(np.flatnonzero(train.family == train.family[0]).astype(np.int64))
    with pytest.raises(InputError, match="one family"):
        inner_folds(one, 5, 0)


def test_labels_that_are_missing_are_left_out_of_the_weights():
    train, valid, test = planted(2, targets=2)
    mask = np.random.default_rng(1).random(train.targets.shape) > 0.3
    spoilt = train.with_targets(np.where(mask, train.targets, np.nan)).with_mask(mask)
    stack = Stack(of="ridge@a,ridge@b,hist_gradient_boosting@a")
    stack.fit(spoilt, valid, seed=0, budget=Budget(threads=1, rounds=5))
    assert stack.weight.shape == (3, 2)
    found = stack.predict(test.without_targets())
    assert min(r2_score(test.targets[:, t], found[:, t]) for t in range(2)) > 0.6


def test_members_see_their_own_features_and_are_saved_with_them(tmp_path):
    sides = planted(3)
    stack = Stack(of="ridge@a+b,knn@b,species_mean")
    stack.fit(*sides[:2], seed=0, budget=BUDGET)
    stack.save(tmp_path)
    layouts = [json.loads(p.read_text()) for p in sorted(tmp_path.glob("member_*/learner.json"))]
    assert [list(x.get("layout", {})) for x in layouts] == [["a", "b"], ["b"], []]
    again = Stack.load(tmp_path)
    assert again.learned == stack.learned
    np.testing.assert_array_equal(again.weight, stack.weight)
    test = sides[2].without_targets()
    np.testing.assert_array_equal(again.predict(test), stack.predict(test))
    with pytest.raises(InputError, match="fitted on"):
        again.predict(only(test, "a"))


@pytest.mark.parametrize(
    "change",
    [
        {"of": "os:system@a,ridge@b"},
        {"of": "stack@a,ridge@b"},
        {"of": "ridge@a"},
        {"folds": "many"},
    ],
    ids=["module", "nested", "fewer", "folds"],
)
def test_a_saved_stack_of_wrong_content_is_one_error(tmp_path, change):
    stack = Stack(of="ridge@a,ridge@b")
    stack.fit(*planted(3, 100)[:2], seed=0, budget=BUDGET)
    stack.save(tmp_path)
    config = json.loads((tmp_path / "learner.json").read_text())
    config["parameters"] |= change
    (tmp_path / "learner.json").write_text(json.dumps(config))
    with pytest.raises(InputError):
        Stack.load(tmp_path)


def test_members_are_read_and_written():
    text = '["ridge@kmer", {"learner": "knn", "features": "pc:pooled+a2z", "params": {"neighbours": 3}}]'
    members = parse_members(text)
    assert members == (Member("ridge", "kmer"), Member("knn", "pc:pooled+a2z", {"neighbours": 3}))
    assert parse_members(members_text(members)) == members
    assert parse_members(" ridge@kmer , knn") == (Member("ridge", "kmer"), Member("knn"))
    assert str(members[1]) == "knn@pc:pooled+a2z[neighbours=3]"
    for wrong, told in [
        ("ridge@", "not of the form"), ("[1]", "no name"), ("[", "no JSON"), ("[]", "at least one"),
        ("ridge,ridge", "twice"), ('[{"features": "a"}]', "text `learner`"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=told):
            parse_members(wrong)
    with pytest.raises(UnknownNameError, match="learners"):
        parse_members('[{"learners": "ridge"}]')


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"of": "ridg@a"}, "Did you mean|ridge"),
        ({"of": "my.module:Mine@a"}, "must be registered"),
        ({"of": "ridge,stack"}, "stack of stacks"),
        ({"of": '[{"learner": "ridge", "params": {"penalti": 1}}]'}, "penalti"),
        ({"folds": 1}, "at least 2"),
    ],
    ids=["unknown", "unregistered", "nested", "parameter", "folds"],
)
def test_a_stack_that_cannot_be_is_refused_at_once(params, told):
    with pytest.raises(InputError, match=told):
        make_learner("stack", params)
    train, valid, _ = planted(0, 100)
    with pytest.raises(InputError, match="needs c"):
        Stack(of="ridge@a,ridge@c").fit(train, valid, seed=0, budget=BUDGET)


def test_on_features_of_one_kind_it_keeps_what_its_best_member_has():
    data = simulate("bins", genes=480)
    alone = score(make_learner("ridge"), data.train, data.valid, data.test)
    assert score(Stack(), data.train, data.valid, data.test) > alone - 0.02


def test_a_stack_that_was_killed_goes_on_where_it_stood(tmp_path):
    data, said = simulate("codes", genes=80), []
    budget = Budget(threads=1, rounds=2, checkpoint=tmp_path / "fit", say=said.append)

    def stack() -> Stack:
        member = {"learner": "onehot_cnn", "params": {"motifs": 4}}
        return Stack(of=json.dumps([member, "ridge"]), folds=2)

    class Killed(BaseException):
        pass

    def killed(line: str) -> None:
        said.append(line)
        if len(said) == 3:  # the first epoch of the second of three networks
            raise Killed

    with pytest.raises(Killed):
        stack().fit(data.train, data.valid, seed=0, budget=replace(budget, say=killed))
    said.clear()
    resumed = stack()
    resumed.fit(data.train, data.valid, seed=0, budget=budget)
    assert [line.split(":")[0] for line in said] == [
        "taken up after epoch 2", "taken up after epoch 1", "epoch 2/2", "epoch 1/2", "epoch 2/2",
    ]  # fmt: skip
    whole = stack()
    whole.fit(data.train, data.valid, seed=0, budget=replace(budget, checkpoint=None))
    assert np.array_equal(resumed.predict(data.test), whole.predict(data.test))
