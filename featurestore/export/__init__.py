"""Takes a store elsewhere: published to object storage, served over HTTP, written as files of other tools."""
