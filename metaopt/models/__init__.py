"""The networks that the inner loop trains, as pure functions of their parameters."""
