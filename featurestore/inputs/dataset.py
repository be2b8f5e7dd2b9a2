"""``dataset.toml``: what it may hold, and reading it with every mistake told at once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    StrictInt,
    ValidationInfo,
    field_validator,
)

from featurestore.inputs import toml_text
from featurestore.inputs.files import read_text
from featurestore.inputs.model import Anchor, Heterozygous, InputKind, Region
from featurestore.inputs.problems import DataSetError, Problems
from featurestore.inputs.toml_tables import TomlTables
from featurestore.schema import RESERVED_NAMES

DEFAULT_REGIONS: Final = (
    Region("promoter", "tss", 4000, 1000),
    Region("terminator", "tts", 1000, 4000),
)
"""EMPRES's documented windows."""

DEFAULT_BIN: Final = 250
DEFAULT_EMBEDDERS: Final = ("onehot", "kmer")
LONGEST_REGION: Final = 2_000_000
"""bp on one side of an anchor: ten times the longest window of any published model."""


def _below_root(path: Path, info: ValidationInfo) -> Path:
    root: Path | None = (info.context or {}).get("root")
    if root is None:
        return path
    try:
        return root / path.expanduser()
    except RuntimeError as error:  # ~name of a user that is not there
        raise ValueError(f"{path}: {error}") from error


InputPath = Annotated[Path, AfterValidator(_below_root)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class ExpressionConfig(_Strict):
    """An expression table and how to read it.

    Parameters
    ----------
    file : Path
    unit : str
        TPM, FPKM, CPM, counts, log2 … or free text; a unit with "log" in it is a log.
    layout : {"auto", "wide", "long"}
        Genes × samples, or one row a value; ``auto`` looks at the header.
    duplicates : {"error", "first", "sum", "mean", "max"}
        What several rows of one gene mean.
    missing : {"nan", "zero", "error"} or list
        What an empty or NA cell means; a list names further texts that mean missing.
    """

    file: InputPath
    unit: str = "TPM"
    layout: Literal["auto", "wide", "long"] = "auto"
    duplicates: Literal["error", "first", "sum", "mean", "max"] = "error"
    missing: Literal["nan", "zero", "error"] | tuple[str | int | float, ...] = "nan"

    @property
    def is_log(self) -> bool:
        """Whether values are logarithms already, and may be negative."""
        return "log" in self.unit.lower()


class VariantsConfig(_Strict):
    """A variant set and how to read it.

    Parameters
    ----------
    file : Path
        VCF; its sample names are lines.
    heterozygous : {"iupac", "haplotypes"}
        Heterozygous substitutions as the IUPAC code of both alleles, or each copy of a line as
        a haplotype of its own.
    """

    file: InputPath
    heterozygous: Heterozygous = "iupac"


class SpeciesConfig(_Strict):
    """The input files of one species; paths are absolute."""

    genome: InputPath | None = None
    annotation: InputPath | None = None
    sequences: InputPath | dict[str, InputPath] | None = None
    positions: InputPath | None = None
    expression: ExpressionConfig | None = None
    samples: InputPath | None = None
    families: InputPath | None = None
    species_code: str | None = None
    variants: dict[str, VariantsConfig] = {}

    @field_validator("variants", mode="before")
    @classmethod
    def _files_alone(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {n: {"file": v} if isinstance(v, str) else v for n, v in value.items()}

    @field_validator("expression", mode="before")
    @classmethod
    def _file_alone(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @property
    def kind(self) -> InputKind:
        """Which of the three modes the species is given in."""
        if self.sequences is not None:
            return "sequences"
        return "genome" if self.genome is not None else "positions"

    def files(self) -> dict[str, Path]:
        """Every input file by its role: ``genome``, ``sequences/promoter``, ``variants/NAME``."""
        roles: dict[str, Path | None] = {"genome": self.genome, "annotation": self.annotation}
        if isinstance(self.sequences, Mapping):
            roles |= {f"sequences/{region}": path for region, path in self.sequences.items()}
        else:
            roles["sequences"] = self.sequences
        roles["positions"] = self.positions
        roles["expression"] = self.expression.file if self.expression else None
        roles |= {"samples": self.samples, "families": self.families}
        roles |= {f"variants/{name}": given.file for name, given in self.variants.items()}
        return {role: path for role, path in roles.items() if path is not None}


class DatasetConfig(_Strict):
    """A data set as declared.

    Parameters
    ----------
    path : Path
        The dataset.toml.
    embedders : tuple of str
        Group names that ``fs build`` makes by default.
    embedder_options : mapping of group name to settings
        The ``[embedders.NAME]`` tables; each has ``type`` (the name itself if not given).
    regions : tuple of Region
        In the order of the file.
    regions_declared : bool
        False where :data:`DEFAULT_REGIONS` stand in; ready-made sequences then are as long as
        they are.
    bin : int
        bp pooled into one stored vector.
    species : mapping of name to SpeciesConfig
        In the order of the file.
    """

    path: Path
    embedders: tuple[str, ...] = DEFAULT_EMBEDDERS
    embedder_options: dict[str, dict[str, Any]] = {}
    regions: tuple[Region, ...] = DEFAULT_REGIONS
    regions_declared: bool = False
    bin: int = DEFAULT_BIN
    species: dict[str, SpeciesConfig] = {}


class _RegionTable(_Strict):
    anchor: Anchor
    upstream: StrictInt = 0
    downstream: StrictInt = 0


def load_config(path: Path | str, *, files: bool = True) -> DatasetConfig:
    """Read a dataset.toml.

    Parameters
    ----------
    path : Path
        The file, or the folder that holds a ``dataset.toml``.
    files : bool
        Whether the files it names have to be there; see :func:`require_files`.

    Raises
    ------
    DataSetError
        With every mistake: those of the file itself and, as nothing can be built anyway,
        those of all the files it names.
    """
    problems = Problems()
    config = read_config(Path(path), problems)
    if config is not None and (problems.items or (files and _any_file_missing(config))):
        from featurestore.inputs.load import read_all

        read_all(config, problems)
    problems.raise_if_any()
    if config is None:
        raise DataSetError(problems.items)
    return config


def require_files(config: DatasetConfig) -> None:
    """Make sure that every file a data set names is there.

    Raises
    ------
    DataSetError
        With every mistake of all its files, where one is missing.
    """
    if _any_file_missing(config):
        from featurestore.inputs.load import read_all

        problems = Problems()
        read_all(config, problems)
        problems.raise_if_any()


def read_config(path: Path, problems: Problems) -> DatasetConfig | None:
    """Read a dataset.toml as far as it goes; mistakes are added to ``problems``."""
    path = path / "dataset.toml" if path.is_dir() else path
    text = read_text(path, problems)
    if text is None:
        return None
    try:
        raw = toml_text.parse(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"line \d+", str(error))
        what = re.sub(r" \(at .*\)$", "", str(error))
        problems.add(path, f"not valid TOML: {what}", "correct it", place[0] if place else "")
        return None
    tables = TomlTables(path, toml_text.key_lines(text), problems)
    default = raw.pop(toml_text.DEFAULT_EMBEDDERS_KEY, None)
    tables.unknown_keys((), raw, ("embedders", "regions", "species"))
    names, options = _read_embedders(tables, default, raw.get("embedders", {}))
    regions, size = _read_regions(tables, raw.get("regions", {}))
    return DatasetConfig(
        path=path.absolute(),
        embedders=names,
        embedder_options=options,
        regions=regions or DEFAULT_REGIONS,
        regions_declared=bool(regions),
        bin=size,
        species=_read_species(tables, raw.get("species", {})),
    )


def _any_file_missing(config: DatasetConfig) -> bool:
    return any(not p.is_file() for s in config.species.values() for p in s.files().values())


def _read_embedders(
    tables: TomlTables, default: Any, raw: Any
) -> tuple[tuple[str, ...], dict[str, dict[str, Any]]]:
    named = dict(tables.table(("embedders",), raw))
    if isinstance(default, dict):  # embedders = { pc = { … } }
        default, named = None, named | default
    if default is None and isinstance(named.get("default"), list):
        default = named.pop("default")
    names: tuple[str, ...] = DEFAULT_EMBEDDERS
    if default is not None:
        if isinstance(default, list) and all(isinstance(name, str) for name in default):
            names = tuple(dict.fromkeys(default))
        else:
            tables.add(
                ("embedders",),
                f"embedders = {default!r} is not a list of names",
                'write for example embedders = ["onehot", "kmer"]',
            )
    options: dict[str, dict[str, Any]] = {}
    for name, table in named.items():
        at = ("embedders", name)
        if not isinstance(table, dict) or not isinstance(table.get("type", name), str):
            mend = f'write [embedders.{name}] with type = "…" and its settings'
            tables.add(at, f"embedder {name!r} is {table!r}, not a table with a type", mend)
        elif tables.safe_name(at, "embedder", name):
            options[name] = {"type": name, **table}
            given = table.get("checkpoint")
            if (
                isinstance(given, str)
                and given
                and (beside := (tables.path.parent / Path(given).expanduser()).resolve()).exists()
            ):
                options[name]["checkpoint"] = str(beside)
    for name in dict.fromkeys((*names, *options)):
        if name in RESERVED_NAMES:
            mend = "give it another name; `type` says what it is"
            tables.add(
                ("embedders", name), f"{name!r} is a group of the store itself, or an array", mend
            )
    return names, options


def _read_regions(tables: TomlTables, raw: Any) -> tuple[tuple[Region, ...], int]:
    named = dict(tables.table(("regions",), raw))
    size = named.pop("bin", DEFAULT_BIN)
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= LONGEST_REGION:
        tables.add(("regions", "bin"), f"bin = {size!r}", "give a whole number of bp, such as 250")
        size = DEFAULT_BIN
    regions: list[Region] = []
    for name, table in named.items():
        at = ("regions", name)
        if not isinstance(table, dict):
            mend = 'known keys: bin, and regions as name = { anchor = "tss", upstream = 4000, …}'
            tables.add(at, f"unknown key or malformed region {name!r} = {table!r}", mend)
        elif tables.safe_name(at, "region", name) and (
            found := tables.validate(at, _RegionTable, table)
        ):
            region = Region(name, found.anchor, found.upstream, found.downstream)
            if max(abs(found.upstream), abs(found.downstream)) > LONGEST_REGION:
                what = f"region {name!r} reaches {max(found.upstream, found.downstream):,} bp far"
                tables.add(at, what, f"give at most {LONGEST_REGION:,} bp on either side")
            elif region.length > 0:
                regions.append(region)
            else:
                what = f"region {name!r} is {region.length} bp long"
                tables.add(at, what, "upstream + downstream must be at least 1")
    return tuple(regions), size


def _read_species(tables: TomlTables, raw: Any) -> dict[str, SpeciesConfig]:
    species: dict[str, SpeciesConfig] = {}
    declared = tables.table(("species",), raw)
    if not declared:
        mend = 'add [species.NAME] with genome = "…" and annotation = "…"'
        tables.add(("species",), "no species is declared", mend)
    for name, table in declared.items():
        at = ("species", name)
        if not tables.safe_name(at, "species", name):
            continue
        found = tables.validate(at, SpeciesConfig, tables.table(at, table))
        if found is None or not _check_species(tables, at, found):
            continue
        for variants in found.variants:
            tables.safe_name((*at, "variants", variants), "variant set", variants)
        species[name] = found
    return species


def _check_species(tables: TomlTables, at: tuple[str, ...], species: SpeciesConfig) -> bool:
    given = [k for k in ("genome", "sequences", "positions") if getattr(species, k) is not None]
    dotted = ".".join(at)
    if len(given) != 1:
        what = f"[{dotted}] gives {' and '.join(given) or 'no genome, sequences or positions'}"
        mend = "give exactly one of: genome with annotation, sequences, positions"
        tables.add(at, what, mend)
        return False
    if (species.genome is None) != (species.annotation is None):
        lacks = "annotation" if species.annotation is None else "genome"
        what = f"[{dotted}] lacks {lacks}"
        tables.add(at, what, f'add {lacks} = "…"; genome and annotation go together')
        return False
    if species.samples is not None and species.expression is None:
        what = f"[{dotted}] has samples but no expression"
        tables.add((*at, "samples"), what, 'add expression = "…" or take samples out')
    if species.variants and species.genome is None:
        what = f"[{dotted}] has variants but no genome"
        tables.add((*at, "variants"), what, "variants need genome and annotation")
    expression = species.expression
    if expression and expression.is_log and expression.duplicates == "sum":
        what = f'duplicates = "sum" with the unit {expression.unit!r}: logarithms do not add up'
        tables.add((*at, "expression"), what, "use mean, max or first")
    return True
