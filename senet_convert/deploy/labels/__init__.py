"""Classes and their orders, and the labels of pictures."""
