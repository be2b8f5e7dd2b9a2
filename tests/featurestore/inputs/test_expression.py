"""Expression tables; pandas is the oracle."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.inputs.dataset import ExpressionConfig
from featurestore.inputs.expression import align, read_expression
from featurestore.inputs.problems import Problems
from featurestore.inputs.samples import join_samples
from tests.builders.inputs_files import only

GENES = ["g1", "g2", "g3", "g4"]


def load(path, problems, genes=GENES, **settings):
    config = ExpressionConfig(file=path, **settings)
    table = read_expression(config, problems)
    return None if table is None else align(table, config, {"id": genes}, problems)


@st.composite
def frames(draw):
    rows = draw(st.lists(st.sampled_from([*GENES, "h1", "h2"]), min_size=1, max_size=9))
    if not set(rows) & set(GENES):
        rows.append("g1")
    samples = draw(
        st.lists(
            st.text("abS_ .-", min_size=1, max_size=4).map(lambda x: "s" + x.strip()),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    number = st.one_of(st.floats(0, 1e6, allow_nan=False), st.integers(0, 999), st.just(np.nan))
    values = [[draw(number) for _ in samples] for _ in rows]
    frame = pd.DataFrame(values, columns=samples, dtype=float)
    frame.insert(0, "gene_id", rows)
    return frame


@given(
    frames(),
    st.sampled_from(["first", "sum", "mean", "max"]),
    st.sampled_from(["nan", "zero"]),
    st.sampled_from(["wide", "long"]),
    st.sampled_from([("x.tsv", "\t"), ("x.csv.gz", ","), ("x.txt", ";")]),
    st.sampled_from([0, 1]),
)
def test_against_pandas(tmp_path_factory, frame, duplicates, missing, layout, kind, quoting):
    path = tmp_path_factory.mktemp("expression") / kind[0]
    written = frame
    if layout == "long":
        written = frame.melt("gene_id", var_name="sample", value_name="value")
    written.to_csv(path, sep=kind[1], index=False, na_rep="NA", quoting=quoting)
    problems = Problems()
    loaded = load(path, problems, duplicates=duplicates, missing=missing)
    assert not problems.items
    expression, _ = loaded
    table = frame.fillna(0.0) if missing == "zero" else frame
    groups = table.groupby("gene_id", sort=False)
    if duplicates == "first":
        merged = groups.nth(0).set_index("gene_id")
    elif duplicates == "sum":
        merged = groups.sum(min_count=1)
    else:
        merged = groups.agg(duplicates)
    want = merged.reindex(GENES)[list(frame.columns[1:])].to_numpy(np.float32)
    assert expression.sample == list(frame.columns[1:])
    np.testing.assert_allclose(expression.value, want, rtol=1e-6)
    assert expression.value.dtype == np.float32
    assert expression.labelled.tolist() == [g in set(frame["gene_id"]) for g in GENES]


def test_r_row_names_without_a_name(folder, problems):
    path = folder.write("x.tsv", "s1\ts2\ng1\t1\t2\ng2\t3\t4\n")
    expression, _ = load(path, problems)
    assert expression.sample == ["s1", "s2"]
    assert expression.value[:2].tolist() == [[1, 2], [3, 4]]


def test_transcripts_meet_genes_and_it_is_said(folder, problems):
    path = folder.rows("x.tsv", "transcript_id s", "g1.1 1", "g1.2 2", "g2.1 5")
    assert load(path, problems) is None
    assert "several rows of one gene: g1.2 (also line 2)" in only(problems).what
    assert "sum" in only(problems).mend
    problems.items.clear()
    expression, notes = load(path, problems, duplicates="sum")
    assert expression.value[:2, 0].tolist() == [3, 5]
    assert "version suffixes were stripped from its ids" in notes[0]
    assert any("1 further rows" in note and "sum" in note for note in notes)


def test_columns_of_other_ids_are_no_samples(folder, problems):
    path = folder.rows("x.tsv", "gene_id transcript_id s", "g1 t1 1")
    expression, notes = load(path, problems)
    assert expression.sample == ["s"]
    assert "transcript_id" in notes[0]


@pytest.mark.parametrize(
    ("rows", "settings", "what", "mend", "place"),
    [
        (["gene s1 s2", "g1 1 2", "g2 3 x"], {}, "no number: 'x' in column 's2'", "missing = ['x']", "line 3"),
        (["gene s1 s2", "g1 1 inf"], {}, "no number: 'inf' in column 's2'", "write a number", "line 2"),
        (["gene s1 s2", "g1 1 -2"], {}, "negative value in a table of unit TPM: '-2' in column 's2'", "log2", "line 2"),
        (["gene s1 s2", "g1 1 NA"], {"missing": "error"}, "missing value: 'NA' in column 's2'", '"zero"', "line 2"),
        (["gene s1 s2", "g1 1"], {}, "wrong column count: 2 cells", "header has 3", "line 2"),
        (["gene s1", "g1 1", "g2 2", "g1 3"], {}, "several rows of one gene: g1 (also line 2)", "duplicates", "line 4"),
        (["gene s1 s1", "g1 1 2"], {}, "columns given twice: 's1'", "its own name", "line 1"),
        (["gene s1"], {}, "a header and no rows", "add rows", "line 1"),
        (["gene"], {}, "a header and no rows", "add rows", "line 1"),
        (["gene", "g1"], {}, "no column of values", "each sample", "header"),
        (["gene s1", "x1 1", "x2 2"], {}, "genes are g1, g2, g3, … (4 in all); the table has x1, x2", "same ids", ""),
        (["gene sample tpm", "g1 s 1", "g1 s 2"], {}, "several rows of one gene", "duplicates", "line 3"),
        (["gene sample tpm", "g1 s q"], {}, "no number: 'q' in column 'tpm'", "number", "line 2"),
        (["gene sample q", "g1 s 1"], {"layout": "long"}, "no column for the value", "'value'", "header"),
    ],
)  # fmt: skip
def test_problems(folder, problems, rows, settings, what, mend, place):
    path = folder.rows("x.tsv", *rows)
    assert load(path, problems, **settings) is None
    problem = only(problems)
    assert problem.file == str(path)
    assert what in problem.what
    assert mend in problem.mend
    assert problem.place == place


def test_logs_may_be_negative_and_tokens_may_be_missing(folder, problems):
    path = folder.rows("x.tsv", "gene s1 s2", "g1 -3.5 -", "g2 99 1")
    expression, _ = load(path, problems, unit="log2", missing=("-", 99))
    assert not problems.items
    np.testing.assert_array_equal(expression.value[:2], [[-3.5, np.nan], [np.nan, 1]])


def test_lines_are_right_after_a_quoted_line_break(folder, problems):
    path = folder.write("x.csv", 'gene,s\n"g\n1",1\n"g2",x\n')
    assert load(path, problems) is None
    assert only(problems).place == "line 4"


def test_an_empty_file(folder, problems):
    assert load(folder.write("x.tsv", ""), problems) is None
    assert "the table is empty" in only(problems).what


def samples(folder, problems, *rows):
    expression, _ = load(folder.rows("x.tsv", "gene s1 s2 s3", "g1 1 2 3"), problems)
    return join_samples(expression, folder.rows("samples.tsv", *rows), problems)


def test_samples_join_by_name_in_any_order(folder, problems):
    expression, notes = samples(
        folder,
        problems,
        "sample tissue control line",
        "s3 root no l3",
        "s1 leaf yes l1",
        "s9 x 1 l9",
    )
    assert not problems.items
    assert expression.tissue == ["leaf", "", "root"]
    assert expression.control == ["1", "", "0"]
    assert expression.line == ["l1", "", "l3"]
    assert expression.genotype is None
    assert "1 of 3 samples of the expression table have no row, for example s2" in notes[0]
    assert "1 of 3 rows name no sample of the expression table, for example s9" in notes[1]


@pytest.mark.parametrize(
    ("rows", "what", "place"),
    [
        (["sample tissue", "x leaf"], "no sample of the expression table is in it", ""),
        (
            ["sample tissue", "s1 leaf", "s1 root"],
            "a sample given twice: s1 (also line 2)",
            "line 3",
        ),
        (["sample control", "s1 maybe"], "control is neither 1 nor 0: 'maybe'", "line 2"),
        (["name tissue", "s1 leaf"], "no column for the sample", "header"),
    ],
)
def test_sample_problems(folder, problems, rows, what, place):
    samples(folder, problems, *rows)
    assert what in only(problems).what
    assert only(problems).place == place
    assert only(problems).file.endswith("samples.tsv")
