"""The dataset.toml of the long-range world and the page beside its truth."""

from __future__ import annotations

from featurestore.sample.long_range.settings import SPECIES, LongRangeSettings


def dataset_toml(settings: LongRangeSettings) -> str:
    """The commented data set description."""
    species = "\n".join(_species_table(s.name) for s in SPECIES)
    return f"""\
# SIMULATED data: two invented species whose genes answer to enhancers 5 to 80 kb away. Not biology.
# How it was made: truth/README.md (seed {settings.seed}, {settings.genes} genes). Paths are relative to
# this file. Beside it, for models of long windows: tracks.tsv (bigWig files), elements.bed
# (enhancers and decoys, unlabelled), pairs.tsv (elements and genes, as CRISPRi tables have them),
# variants.vcf (of {SPECIES[0].name}).

embedders = ["onehot", "kmer"]

# Windows, in transcript direction. They show the promoter and nothing of the enhancers; long
# windows are read from the genome, which the store holds.
[regions]
promoter   = {{ anchor = "tss", upstream = 1000, downstream = 500 }}
terminator = {{ anchor = "tts", upstream = 500, downstream = 1000 }}
bin = 250                       # bp pooled into one stored vector: 6 bins a region

{species}"""


def _species_table(name: str) -> str:
    return f"""\
[species.{name}]
genome     = "{name}.fa"
annotation = "{name}.gff3"
expression = {{ file = "{name}.tpm.tsv", unit = "TPM" }}
families   = "families.tsv"
"""


def truth_readme(settings: LongRangeSettings) -> str:
    """What the files of ``truth/`` hold; it names every one."""
    return f"""\
# SIMULATED long-range world and its truth

Nothing here is biology. Two invented species, `{SPECIES[0].name}` and `{SPECIES[1].name}`, were made by the meristem
sample generator with seed {settings.seed} and {settings.genes} genes. The rule is described in
`docs/simulator.md` of the project; its constants stand in `grammar.json`, sizes in `settings.json`.

Learners must not see this folder.

- `grammar.json`, `settings.json`: the rule with its motifs and constants; sizes and seed.
- `genes.tsv`: species, gene, family, leaf, contig, strand, TSS and TTS (0-based boundaries);
  `promoter` (strength), `distal` (summed contributions), `expression` = promoter × (1 + distal), in
  arbitrary units without noise; `tpm`, the same scaled to TPM.
- `elements.tsv`: species, element, contig, start, end (0-based, half-open), kind (`enhancer`,
  `accessible_decoy`, `inert_decoy`); summed occupancy of `activators` and `openers`; strength;
  orientation (+ points right) and `direction` (−1 … 1).
- `pairs.tsv`: species, gene, element, kind, distance (TSS to the element's middle), contribution,
  effect: fraction by which expression changes when the element is replaced by N.
- `variants.tsv`: species, variant, contig, position (1-based), ref, alt; kind (`distal`: in a site of an
  enhancer, `direction`: in its direction motif, `proximal`: in a site of a promoter, `decoy`,
  `background`); element; gene with the strongest effect and its log2 fold change by the grammar on the
  mutated sequence (0 and "." where there is none).
- `shares.json`: parts of promoter, distal effects and noise in the variance of log10 of the median
  TPM between genes, per species.
"""
