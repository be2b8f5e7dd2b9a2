"""What is known of published checkpoints, by hub id: licence, sizes, species seen in pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from featurestore.embedders.plantcaduceus.nano import NANO

# The 16 genomes of Zhai et al. 2025 (PNAS 122, e2421738122; data set kuleshov-group/
# Angiosperm_16_genomes). Names: github.com/eric-czech/plantcad-spectral-analysis, by a co-author,
# data/filters/plantcad1_species.txt at commit ca92eeb, which lists them as in Phytozome (Taestivum
# … Cpapaya). Csativa, Rsativus and Thassleriana are read as the Brassicales that they can only be
# beside the other five: eight Poales, eight Brassicales. Maize is not among them.
PLANTCADUCEUS_SPECIES: Final = (
    "Arabidopsis thaliana", "Brachypodium distachyon", "Brassica rapa", "Camelina sativa",
    "Capsella rubella", "Carica papaya", "Eutrema salsugineum", "Hordeum vulgare",
    "Oryza sativa", "Paspalum vaginatum", "Raphanus sativus", "Setaria viridis",
    "Sorghum bicolor", "Tarenaya hassleriana", "Tripsacum dactyloides", "Triticum aestivum",
)  # fmt: skip

# The 65 genomes of PlantCAD2 (data set plantcad/Angiosperm_65_genomes_8192bp). Names: the species
# column of that data set as tabulated in the same repository, results/sep/v13/
# eigenspectrum_spcad_n65536_l8192_pmean_confusion_matrix.csv, abbreviated as in Phytozome and
# expanded here; six of them are asterids, as the authors say (github.com/plantcad/plantcad, issue 12).
PLANTCAD2_SPECIES: Final = (
    "Amaranthus hypochondriacus", "Ananas comosus", "Aquilegia coerulea", "Arabidopsis thaliana",
    "Arachis hypogaea", "Asparagus officinalis", "Beta vulgaris", "Betula platyphylla",
    "Boechera stricta", "Brachypodium distachyon", "Capsella rubella", "Carya illinoinensis",
    "Chenopodium quinoa", "Cicer arietinum", "Cinnamomum kanehirae", "Citrus clementina",
    "Coffea arabica", "Corylus avellana", "Corymbia citriodora", "Cucumis sativus",
    "Daucus carota", "Dioscorea alata", "Eleusine coracana", "Eucalyptus grandis",
    "Eutrema salsugineum", "Fragaria vesca", "Glycine max", "Helianthus annuus",
    "Hordeum vulgare", "Lactuca sativa", "Lens ervoides", "Linum usitatissimum",
    "Lotus japonicus", "Lupinus albus", "Malus domestica", "Manihot esculenta",
    "Medicago truncatula", "Miscanthus sinensis", "Musa acuminata", "Nymphaea colorata",
    "Olea europaea", "Oropetium thomaeum", "Oryza sativa", "Panicum virgatum",
    "Paspalum vaginatum", "Poncirus trifoliata", "Populus trichocarpa", "Portulaca amilis",
    "Prunus persica", "Quercus rubra", "Ricinus communis", "Salix purpurea",
    "Schrenkiella parvula", "Setaria viridis", "Sorghum bicolor", "Spinacia oleracea",
    "Spirodela polyrhiza", "Thinopyrum intermedium", "Triticum aestivum", "Vaccinium darrowii",
    "Vicia faba", "Vigna unguiculata", "Vitis vinifera", "Zea mays", "Zostera marina",
)  # fmt: skip


@dataclass(frozen=True)
class ModelCard:
    """Licence, pre-training species and size of a checkpoint.

    Parameters
    ----------
    licence : str
        Of the weights.
    pretraining_species : tuple of str
        Binomials of the genomes seen in pre-training.
    parameters : int
        Each tied one counted once; 0 where it is not stated.
    window : int
        Longest input in pre-training, bp; 0 where it is not stated.
    """

    licence: str
    pretraining_species: tuple[str, ...]
    parameters: int = 0
    window: int = 0


def _cards(species: tuple[str, ...], window: int, sizes: dict[str, int]) -> dict[str, ModelCard]:
    """Cards of one family; the licence is that of all these hub pages and repositories."""
    return {
        f"kuleshov-group/{name}": ModelCard("Apache-2.0", species, parameters, window)
        for name, parameters in sizes.items()
    }


CARDS: Final[dict[str, ModelCard]] = _cards(
    PLANTCADUCEUS_SPECIES, 512,
    {
        "PlantCaduceus_l20": 20_870_016, "PlantCaduceus_l24": 43_614_720,
        "PlantCaduceus_l28": 112_107_264, "PlantCaduceus_l32": 225_354_752,
    },
) | _cards(
    PLANTCAD2_SPECIES, 8192,
    {
        "PlantCAD2-Small-l24-d0768": 88_238_208, "PlantCAD2-Medium-l48-d1024": 311_162_880,
        "PlantCAD2-Large-l48-d1536": 694_385_664,
    },
) | {
    NANO: ModelCard(
        "Apache-2.0",
        # Its card says which records; the promoters of the third source name no species.
        ("Arabidopsis thaliana", "Brassica rapa", "plants that their source does not name"),
        540_288, 512,
    ),
}  # fmt: skip
"""By hub id, and the model that ships with the package."""


def card_of(name: str) -> ModelCard | None:
    """The card of a checkpoint by hub id, or by the last part of it."""
    last = name.rsplit("/", 1)[-1]
    return next((card for key, card in CARDS.items() if key.rsplit("/", 1)[-1] == last), None)
