"""dataset.toml: spellings, defaults, and mistakes with their lines."""

from __future__ import annotations

import pytest

from featurestore.inputs.dataset import load_config, read_config
from featurestore.inputs.model import Region
from featurestore.inputs.problems import DataSetError, Problems
from tests.builders.inputs_files import Folder, only

SPECIES = '[species.ath]\ngenome = "g.fa"\nannotation = "a.gff3"\n'


def read(folder: Folder, text: str, problems: Problems):
    return read_config(folder.write("dataset.toml", text), problems)


def test_defaults_are_the_documented_windows(folder, problems):
    config = read(folder, SPECIES, problems)
    assert not problems.items
    assert config.regions == (
        Region("promoter", "tss", 4000, 1000),
        Region("terminator", "tts", 1000, 4000),
    )
    assert (config.bin, config.embedders, config.regions_declared) == (
        250,
        ("onehot", "kmer"),
        False,
    )
    assert config.species["ath"].genome == folder.path / "g.fa"


def test_the_spelling_of_the_design(folder, problems):
    config = read(
        folder,
        """
embedders = ["onehot", "kmer", "pc"]            # default of fs build

[regions]                       # any number, in this order
tail  = { anchor = "tts", upstream = 10, downstream = 40 }
head  = { anchor = "tss", upstream = 40, downstream = 10 }
bin = 5

[embedders.pc]                  # a configured embedder
type = "plantcaduceus"
checkpoint = "kuleshov-group/PlantCaduceus_l20"

[species.arabidopsis_thaliana]
genome     = "genome.fa.gz"
annotation = "genes.gff3.gz"
expression = { file = "tpm.tsv", unit = "FPKM", layout = "wide", duplicates = "sum", missing = ["-", -1] }
samples    = "/abs/samples.tsv"
variants.mutants = "mutants.vcf.gz"

[species.brassica_rapa]
sequences  = { head = "p.fa.gz", tail = "t.tsv.gz" }
expression = "cpm.tsv"
[species.human]
positions  = "genes.tsv"
""",
        problems,
    )
    assert not problems.items
    assert config.embedders == ("onehot", "kmer", "pc")
    assert config.embedder_options == {
        "pc": {"type": "plantcaduceus", "checkpoint": "kuleshov-group/PlantCaduceus_l20"}
    }
    assert [r.name for r in config.regions] == ["tail", "head"]
    assert config.bin == 5
    ath, bra, human = config.species.values()
    assert (ath.kind, bra.kind, human.kind) == ("genome", "sequences", "positions")
    assert ath.expression.missing == ("-", -1)
    assert {role: path.name for role, path in ath.files().items()} == {
        "genome": "genome.fa.gz",
        "annotation": "genes.gff3.gz",
        "expression": "tpm.tsv",
        "samples": "samples.tsv",
        "variants/mutants": "mutants.vcf.gz",
    }
    assert str(ath.samples) == "/abs/samples.tsv"
    assert bra.sequences["head"] == folder.path / "p.fa.gz"
    assert bra.expression.unit == "TPM"


@pytest.mark.parametrize(
    "text",
    [
        'embedders = ["pc"]\n[embedders.pc]\ntype = "x"\n',
        "embedders = [\n  'pc',\n]\n[embedders.pc]\ntype = 'x'\n",
        "'embedders' = ['pc']\n[embedders]\npc = { type = 'x' }\n",
        "[embedders]\ndefault = ['pc']\n[embedders.pc]\ntype = 'x'\n",
        "[embedders.pc]\ntype = 'x'\n[embedders]\ndefault = ['pc']\n",
    ],
)
def test_list_and_tables_of_embedders_together(folder, problems, text):
    config = read(folder, text + SPECIES, problems)
    assert not problems.items
    assert config.embedders == ("pc",)
    assert config.embedder_options == {"pc": {"type": "x"}}


@pytest.mark.parametrize(
    ("text", "what", "mend", "place"),
    [
        ("specis = 1\n" + SPECIES, "unknown key 'specis'. Did you mean 'species'?", "known keys", "line 1"),
        (SPECIES + 'genme = "x"\n', "unknown key 'genme' in [species.ath]. Did you mean 'genome'?", "annotation", "line 4"),
        (SPECIES + 'expression = { file = "x", unt = "TPM" }', "unknown key 'unt' in [species.ath.expression]. Did you mean 'unit'?", "layout", "line 4"),
        (SPECIES + 'expression = { file = "x", layout = "wid" }', "layout = 'wid'", "known keys: file", "line 4"),
        (SPECIES + 'expression = { unit = "TPM" }', "[species.ath.expression] lacks 'file'", "file", "line 4"),
        (SPECIES + 'expression = { file = "x", unit = "log2", duplicates = "sum" }', "do not add up", "mean", "line 4"),
        (SPECIES + 'samples = "x"', "samples but no expression", "expression", "line 4"),
        (SPECIES + 'sequences = "x"', "[species.ath] gives genome and sequences", "exactly one", "line 1"),
        (SPECIES + '[species."../x"]\ngenome = "x"\n', "species '../x' cannot be the name of a folder", "letters", "line 4"),
        (SPECIES + '[species.".x"]\ngenome = "x"\n', "species '.x' cannot", "letters", "line 4"),
        (SPECIES + 'variants."a/b" = "x"\n', "variant set 'a/b' cannot", "letters", "line 4"),
        ('[species.x]\ngenome = "x"\n', "[species.x] lacks annotation", "go together", "line 1"),
        ('[species.x]\nfamilies = "x"\n', "no genome, sequences or positions", "exactly one", "line 1"),
        ('[species.x]\npositions = "p"\nvariants.v = "x"\n', "variants but no genome", "genome", "line 3"),
        ('[species.x]\npositions = 3\n', "species.x.positions = 3", "positions", "line 2"),
        ("bin = 3\n", "unknown key 'bin'", "regions", "line 1"),
        ("[regions]\nbin = 0\n" + SPECIES, "bin = 0", "250", "line 2"),
        ("[regions]\nbinn = 5\n" + SPECIES, "'binn' = 5", "bin", "line 2"),
        ('[regions]\np = { anchor = "tsx" }\n' + SPECIES, "anchor = 'tsx': Input should be 'tss' or 'tts'", "anchor", "line 2"),
        ('[regions]\np = { anchor = "tss" }\n' + SPECIES, "region 'p' is 0 bp long", "at least 1", "line 2"),
        ('[regions]\np = { anchor = "tss", upstrem = 5, downstream = 5 }\n' + SPECIES, "Did you mean 'upstream'?", "upstream", "line 2"),
        ("embedders = 'kmer'\n" + SPECIES, "embedders = 'kmer' is not a list", "onehot", ""),
        ("[embedders]\npc = 3\n" + SPECIES, "embedder 'pc' is 3", "[embedders.pc]", "line 2"),
        ("[embedders.expression]\ntype='kmer'\n" + SPECIES, "'expression' is a group of the store", "another name", "line 1"),
        ("x = \n" + SPECIES, "not valid TOML: Invalid value", "correct", "line 1"),
        ("embedders = ['kmer']\n", "no species is declared", "[species.NAME]", ""),
    ],
)  # fmt: skip
def test_problems(folder, problems, text, what, mend, place):
    read(folder, text, problems)
    problem = next((p for p in problems.items if what in p.what), None)
    assert problem is not None, [str(p) for p in problems.items]
    assert mend in problem.mend
    assert problem.file == str(folder.path / "dataset.toml")
    if place:
        assert problem.place == place


def test_an_unknown_key_costs_nothing_else(folder, problems):
    config = read(folder, SPECIES + "genme = 'x'\nfamilies = 'f.tsv'\n", problems)
    only(problems)
    assert config.species["ath"].families == folder.path / "f.tsv"


def test_config_and_files_are_told_in_one_report(folder):
    folder.write("g.fa", ">c1\nAC*T\n")
    folder.write("dataset.toml", SPECIES + 'familes = "f.tsv"\nexpression = "e.tsv"\n')
    with pytest.raises(DataSetError) as caught:
        load_config(folder.path)
    told = str(caught.value)
    assert caught.value.exit_code == 2
    for part in (
        "4 problems",
        "'familes'",
        "'*' at base 3",
        "a.gff3: the file does not exist",
        "e.tsv",
    ):
        assert part in told


def test_missing_toml(folder):
    with pytest.raises(DataSetError, match="does not exist"):
        load_config(folder.path / "no.toml")
