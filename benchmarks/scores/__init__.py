"""What is made of predictions: metrics, intervals, comparisons, leaderboard, transfer."""
