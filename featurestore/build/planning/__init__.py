"""What a build consists of, decided before anything is computed: request, plan, forecast and its reasons."""
