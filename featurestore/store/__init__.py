"""The store on disk: layout, reading, verifying."""
