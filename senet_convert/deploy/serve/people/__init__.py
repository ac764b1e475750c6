"""For people: pictures in, labels and the gates of SE blocks out, and a page that shows them."""
