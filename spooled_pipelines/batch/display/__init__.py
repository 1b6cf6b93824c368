"""How a batch shows itself: cards in notebooks, progress bars, and figures."""
