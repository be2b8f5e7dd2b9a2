"""``python -m featurestore.embedders.a2z.convert IN.h5 OUT.safetensors``: Keras → safetensors.

The architecture is asserted, the result is read again and held against the Keras file bit for bit.
What the file was stands in the header of the result, so that published weights stay known.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from featurestore.embedders.a2z.published import Published, file_md5, identify
from featurestore.embedders.checkpoint import file_digest
from featurestore.errors import InputError, MeristemError


def convert(source: Path, target: Path) -> Published | None:
    """Write the weights of a Keras file as safetensors; which published model it is, or None.

    Raises
    ------
    InputError
        For a source that is not a2z, and a target that exists or has another suffix.
    """
    import torch

    from featurestore.embedders.a2z.model import A2Z

    if target.suffix != ".safetensors":
        raise InputError(f"{target}: give the result the suffix .safetensors")
    if target.exists():
        raise InputError(f"{target}: exists; remove it or give another name")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}")
    model = A2Z.from_keras(source)
    facts = {
        "source": source.name, "source_md5": file_md5(source), "source_sha256": file_digest(source),
    }  # fmt: skip
    model.save_safetensors(target, facts)
    again = A2Z.from_safetensors(target).state_dict()
    for key, value in model.state_dict().items():
        if not torch.equal(value, again[key]):
            raise MeristemError(f"{target}: {key} was not written as it was read; try another disk")
    return identify(source)


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 done, 2 for an input that is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m featurestore.embedders.a2z.convert",
        description="Convert a2z's Keras weights to safetensors.",
    )
    parser.add_argument("source", type=Path, metavar="IN.h5")
    parser.add_argument("target", type=Path, metavar="OUT.safetensors")
    given = parser.parse_args(arguments)
    try:
        known = convert(given.source, given.target)
    except MeristemError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 # a command
        return error.exit_code
    what = f"the published {known.model} model" if known else "not a published file of a2z"
    lines = [
        f"{given.source}: architecture and settings are a2z's; {what} (MD5 {file_md5(given.source)})",
        f"{given.target}: {given.target.stat().st_size:,} bytes, read again and equal bit for bit",
    ]
    print("\n".join(lines))  # noqa: T201 # a command
    return 0


if __name__ == "__main__":
    sys.exit(main())
