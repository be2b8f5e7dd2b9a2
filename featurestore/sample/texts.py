"""The dataset.toml of the sample and the page beside its truth."""

from __future__ import annotations

from featurestore.sample.settings import PROMOTER, SPECIES, TERMINATOR, SampleSettings


def dataset_toml(settings: SampleSettings) -> str:
    """The commented data set description; it doubles as the template for real data."""
    species = "\n".join(
        _species_table(s.name, mutants=i == 0 and settings.lines > 0) for i, s in enumerate(SPECIES)
    )
    return f"""\
# SIMULATED data: two invented species with a known regulatory grammar. Not biology.
# How it was made: truth/README.md. Replace the files by your own and keep the rest.
# Paths are relative to this file. `fs plan dataset.toml` checks everything without building.

# What `fs build` computes unless told otherwise; `fs embedders` lists what there is. A genomic
# language model that ships with the package: fs build … --embedder plantcaduceus-nano
embedders = ["onehot", "kmer"]

# Windows, in transcript direction. TSS and TTS are boundaries between bases: upstream = 1000,
# downstream = 500 is the 1,000 bases before the first transcribed base and the 500 from it on.
# Without this table the windows are 4000 + 1000 at the TSS and 1000 + 4000 at the TTS; the
# simulated grammar acts within these smaller ones only, and the demo is done in seconds.
[regions]
promoter   = {{ anchor = "tss", upstream = {PROMOTER[0]}, downstream = {PROMOTER[1]} }}
terminator = {{ anchor = "tts", upstream = {TERMINATOR[0]}, downstream = {TERMINATOR[1]} }}
bin = 250                       # bp pooled into one stored vector: 6 bins a region

{species}"""


def _species_table(name: str, *, mutants: bool) -> str:
    variants = (
        f'variants.mutants = "{name}.mutants.vcf"    # sample names of the VCF are lines\n'
        if mutants
        else ""
    )
    return f"""\
[species.{name}]
genome     = "{name}.fa"          # FASTA, plain, gzip or bgzip
annotation = "{name}.gff3"        # GFF3 or GTF
expression = {{ file = "{name}.tpm.tsv", unit = "TPM" }}    # genes × samples
samples    = "{name}.samples.tsv" # sample, tissue, genotype, line, control
families   = "families.tsv"                 # gene, family; both species in one file
{variants}"""


def truth_readme(settings: SampleSettings) -> str:
    """What the files of ``truth/`` hold; it names every one."""
    return f"""\
# SIMULATED data and its truth

Nothing here is biology. Two invented species, `simulated_alpha` and `simulated_beta`, were made by
the meristem sample generator with seed {settings.seed}, {settings.genes} genes per species and
{settings.lines} mutant lines. The model is described in `docs/simulator.md` of the project; all its
parameters stand in `grammar.json` and `settings.json`.

Learners must not see this folder. Tests and reports use it as the known ceiling.

- `grammar.json`: motifs (consensus, relative occupancies, position and strand weights, weight per
  tissue), pairs, GC terms.
- `settings.json`: sizes, standard deviations, seed.
- `genes.tsv`: species, gene, family, leaf of the family tree, contig, strand, TSS and TTS (0-based
  boundaries), chromatin domain; hidden effects (log10).
- `features.tsv`: value of every feature of the grammar per gene.
- `contributions.tsv`: feature × weight per gene and tissue (log10); with the intercept they add up
  to the grammar's expression.
- `expression.tsv`: per gene and tissue noise-free log10 expression of the grammar, and with hidden
  effects (true); the target log10(1 + median TPM), over all samples and over controls: observed,
  and free of noise from the sequence alone and from all true effects.
- `samples.tsv`: log10 factor that turned the amounts of a sample into TPM.
- `sites.tsv`: motif sites of relative occupancy ≥ 0.5 (start in bp from the motif's anchor,
  transcript orientation; 0 is the first base after the boundary).
- `families.nwk.tsv`: tree of each family, Newick, branch lengths in neutral substitutions per site.
- `mutants.tsv`: lines × genes whose windows a variant touches: variants, zygosity, whether all are
  private to the line, true change of log10 expression per tissue, and of the mean over tissues of
  log10(1 + TPM). All other pairs are exactly zero.
- `ceiling.json`: R² and Pearson's r of the truth against the observation: pooled, per species,
  within species (mean over species), within genes (mutant lines).

log10 expression of the grammar is in arbitrary units: TPM = 10^(log10 expression + hidden effects +
noise + log10 factor of the sample).
"""
