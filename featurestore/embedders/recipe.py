"""How per-base hidden states become the stored vectors: data, so that it stands in the store.

A recipe is a name of :data:`RECIPES` or a table of the fields of :class:`Recipe`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final, Literal, get_args

from featurestore.errors import InputError, unknown_name

Pool = Literal["mean", "token", "tokens"]
Strands = Literal["average", "forward", "both"]
Context = Literal["bin", "region"]


@dataclass(frozen=True)
class Recipe:
    """Which window a model sees and which of its hidden states are kept.

    Parameters
    ----------
    window : int
        Model input in bp, centred on the bin.
    pool : {"mean", "token", "tokens"}
        Mean over the central ``span`` bases; the single base ``token``; all bases of the span.
    span : int
        Bases in the middle of the window; they start at ``(window - span) // 2``.
    token : int or None
        0-based position in the window, for ``pool = "token"``.
    strands : {"average", "forward", "both"}
        Mean of the two strands, the forward one, or both beside each other. A model that reads
        one strand is run on the reverse complement too, unless "forward".
    layer : int
        Hidden state: −1 the normed output, 0 the embedding, i the output of layer i.
    context : {"bin", "region"}
        One vector a bin, or one a region: the mean over windows that tile it.
    """

    window: int = 512
    pool: Pool = "mean"
    span: int = 250
    token: int | None = None
    strands: Strands = "average"
    layer: int = -1
    context: Context = "bin"

    @property
    def bounds(self) -> tuple[int, int]:
        """First base of the kept span in the window, and the one after its last."""
        if self.pool == "token" and self.token is not None:
            return self.token, self.token + 1
        start = (self.window - self.span) // 2
        return start, start + self.span

    @property
    def text(self) -> str:
        """The recipe in words, for the attributes of the arrays."""
        start, stop = self.bounds
        kept = {
            "mean": f"mean of positions {start} to {stop - 1}",
            "token": f"position {start}",
            "tokens": f"each of positions {start} to {stop - 1}",
        }[self.pool]
        whole = "; mean over the windows that tile the region" if self.context == "region" else ""
        return f"{kept} of a {self.window}-bp window{whole}"

    def as_dict(self) -> dict[str, Any]:
        """Plain types, for the identity of an embedder."""
        return asdict(self)


RECIPES: Final[Mapping[str, Recipe]] = {
    "empres": Recipe(),
    "centre_token": Recipe(pool="token", token=255),
    "region_mean": Recipe(context="region"),
    "per_token": Recipe(pool="tokens"),
}
"""``empres``: 512 bp around each 250-bp bin, mean of the central 250, strand-averaged (EMPRES);
``centre_token``: token 255, the feature of PlantCaduceus's own XGBoost classifiers;
``region_mean``: one vector a region; ``per_token``: one vector a base."""


def make_recipe(given: str | Mapping[str, Any] | Recipe, where: str) -> Recipe:
    """The recipe that a configuration names or spells out.

    Parameters
    ----------
    given : str or mapping
        A name of :data:`RECIPES`, or fields of :class:`Recipe`; ``base`` in a mapping names the
        recipe that the other fields change (``empres`` if there is none).
    where : str
        For messages, e.g. ``[embedders.pc] recipe``.

    Raises
    ------
    InputError
        For an unknown name or field, or values that do not fit each other.
    """
    if isinstance(given, Recipe):
        recipe = given
    elif isinstance(given, str):
        recipe = _named(given, where)
    elif isinstance(given, Mapping):
        settings = dict(given)
        recipe = _named(str(settings.pop("base", "empres")), where)
        known = {f.name for f in fields(Recipe)}
        for key in settings:
            if key not in known:
                raise InputError(f"{where}: {unknown_name('field', key, known)}")
        recipe = replace(recipe, **settings)
    else:
        raise InputError(f"{where} = {given!r}: give one of {', '.join(RECIPES)}, or a table")
    _check(recipe, where)
    return recipe


def _named(name: str, where: str) -> Recipe:
    if name not in RECIPES:
        raise InputError(f"{where}: {unknown_name('recipe', name, RECIPES)}")
    return RECIPES[name]


def _check(recipe: Recipe, where: str) -> None:
    for field, allowed in (("pool", Pool), ("strands", Strands), ("context", Context)):
        if (value := getattr(recipe, field)) not in get_args(allowed):
            raise InputError(f"{where}: {field} = {value!r}; one of {', '.join(get_args(allowed))}")
    for field in ("window", "span"):
        value = getattr(recipe, field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(f"{where}: {field} = {value!r}; give a number of bases from 1")
    if recipe.pool != "token" and recipe.span > recipe.window:
        raise InputError(
            f"{where}: span = {recipe.span} is wider than the window of {recipe.window} bp"
        )
    if recipe.pool == "token" and (
        not isinstance(recipe.token, int) or not 0 <= recipe.token < recipe.window
    ):
        raise InputError(
            f"{where}: pool = 'token' needs token, a position from 0 to {recipe.window - 1}; it is {recipe.token!r}"
        )
    if recipe.context == "region" and recipe.pool != "mean":
        raise InputError(f"{where}: context = 'region' goes with pool = 'mean'")
