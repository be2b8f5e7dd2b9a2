"""Where shards are computed: threads, processes, Dask schedulers and clusters."""
