"""The gates of SE blocks, as the page shows them."""
