"""The 17 species codes of PhytoExpr's data.csv, with the species that they are taken for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from featurestore.errors import InputError
from featurestore.inputs.toml_tables import is_safe_name

INFERRED: Final[Mapping[str, str]] = {
    "Csa": "cucumis_sativus",
    "Sly": "solanum_lycopersicum",
    "Sbi": "sorghum_bicolor",
    "Ath": "arabidopsis_thaliana",
    "Vvi": "vitis_vinifera",
    "Osa": "oryza_sativa",
    "Mtr": "medicago_truncatula",
    "Ppa": "physcomitrium_patens",
    "Gma": "glycine_max",
    "Bdi": "brachypodium_distachyon",
    "Sit": "setaria_italica",
    "Ptr": "populus_trichocarpa",
    "Svi": "setaria_viridis",
    "Bvu": "beta_vulgaris",
    "Cre": "chlamydomonas_reinhardtii",
    "Zma": "zea_mays",
    "Stu": "solanum_tuberosum",
}
"""Inferred from the letters: the deposit's own table of names was not at hand."""


def parse_names(texts: Iterable[str]) -> dict[str, str]:
    """``CODE=NAME`` as given by a user.

    Raises
    ------
    InputError
        If it is not of that form, or the name cannot be that of a species.
    """
    names: dict[str, str] = {}
    for text in texts:
        code, equals, name = text.partition("=")
        if not (code and equals and is_safe_name(name)):
            raise InputError(
                f"--species-name {text!r}: write CODE=NAME, e.g. Ath=arabidopsis_thaliana; names have "
                "letters, digits, _, . and -"
            )
        names[code] = name
    return names


def species_name(code: str, names: Mapping[str, str]) -> tuple[str, str]:
    """Name of a species by its code, and where the name comes from.

    Raises
    ------
    InputError
        For a code that is not known and cannot be a name itself.
    """
    if code in names:
        return names[code], "named by --species-name"
    if code in INFERRED:
        return INFERRED[code], f"inferred from the code {code}"
    if is_safe_name(code):
        return code, "the code itself: not one of PhytoExpr's"
    raise InputError(f"species code {code[:50]!r}: give it a name with --species-name CODE=NAME")
