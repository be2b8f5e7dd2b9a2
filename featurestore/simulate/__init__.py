"""What a build would cost on so many workers, from measured rates, without building."""
