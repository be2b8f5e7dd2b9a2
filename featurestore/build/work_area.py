"""The work area of a build, beside the store: inputs, finished shards, markers.

store.zarr.build/
  lock  plan.json  jobs.json
  inputs/<species>/     windows and bases, memory-mapped by the tasks
  places/  shared/<embedder>/   inputs that several shards need, and their vectors
  partial/<shard>/      vectors of a shard that is being computed
  store/                the store under construction, shard by shard
  done/<species>/<group>/<shard>.json   written last: the shard is whole
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from featurestore.build.planning.group_plan import Task
from featurestore.store.shard import WrittenFile, commit_file


@dataclass(frozen=True)
class Marker:
    """What a finished shard says of itself."""

    key: str
    files: dict[str, WrittenFile]
    facts: dict[str, Any]


@dataclass(frozen=True)
class WorkArea:
    """Paths of one work area."""

    root: Path

    @classmethod
    def beside(cls, store: Path) -> WorkArea:
        """The work area of a store."""
        return cls(store.with_name(store.name + ".build"))

    @property
    def plan(self) -> Path:
        """The plan."""
        return self.root / "plan.json"

    @property
    def jobs(self) -> Path:
        """What is left to do of the plan, by number, for array jobs."""
        return self.root / "jobs.json"

    @property
    def store(self) -> Path:
        """The store under construction."""
        return self.root / "store"

    @property
    def sealed(self) -> Path:
        """Digest of the tree that is being put in the place of the store."""
        return self.root / "sealed"

    @property
    def being_removed(self) -> Path:
        """Where the work area lies while it is deleted."""
        return self.root.with_name(f".{self.root.name}.removed")

    def remove(self) -> None:
        """Remove the work area while its lock is held.

        Moved away first: another build may lock a new one while this one is still being deleted.
        """
        self.clear_removed()
        self.root.rename(self.being_removed)
        self.clear_removed()

    def clear_removed(self) -> None:
        """Delete what a removal that was cut off left."""
        shutil.rmtree(self.being_removed, ignore_errors=True)

    def inputs(self, species: str) -> Path:
        """Windows and bases of a species."""
        return self.root / "inputs" / species

    def shared(self, embedder: str) -> Path:
        """Vectors that several shards need."""
        return self.root / "shared" / embedder

    def shared_places(self, embedder: str) -> Path:
        """Which inputs several shards need, array of (number of the source, item, region, bin)."""
        return self.root / "places" / f"{embedder}.npy"

    def known(self, pool: str) -> Path:
        """Index of the vectors of an embedder that lie elsewhere, see :mod:`.known`."""
        return self.root / "known" / pool

    @property
    def earlier(self) -> Path:
        """Finished shards of costly embedders that a build of other inputs left."""
        return self.root / "earlier"

    def partial(self, task: Task, key: str) -> Path:
        """Vectors of a shard that is being computed, kept against a kill."""
        return self.root / "partial" / task.path.replace("/", ".") / key[:24]

    def marker_path(self, task: Task) -> Path:
        """Marker of a shard."""
        return self.root / "done" / task.species / task.group / f"{task.shard}.json"

    def write_marker(
        self, task: Task, key: str, files: Mapping[str, WrittenFile], facts: Mapping[str, Any]
    ) -> None:
        """Commit the marker: from here on the shard is done."""
        body = {
            "key": key,
            "files": {p: [f.size, f.digest] for p, f in sorted(files.items())},
            "facts": dict(facts),
        }
        commit_file(self.marker_path(task), [json.dumps(body).encode()])

    def read_marker(self, task: Task, key: str) -> Marker | None:
        """The marker of a finished shard, or None if it is not done, or done for other inputs."""
        try:
            body = json.loads(self.marker_path(task).read_bytes())
            files = {
                p: WrittenFile(int(size), str(digest))
                for p, (size, digest) in body["files"].items()
            }
        except (OSError, ValueError, KeyError, TypeError):
            return None  # no marker, or one that says nothing: the shard is computed again
        if body.get("key") != key:
            return None
        for path, file in files.items():
            try:
                if (self.store / path).stat().st_size != file.size:
                    return None
            except FileNotFoundError:
                return None
        return Marker(key, files, body.get("facts", {}))
