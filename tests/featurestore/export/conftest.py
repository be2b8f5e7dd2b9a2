"""The stores and servers of the tests of reading over a network."""

from tests.featurestore.remote.conftest import built, moto, s3

__all__ = ["built", "moto", "s3"]
