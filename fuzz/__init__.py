"""Damages small networks at random: each reading must give a graph or a ConvertError, soon, in little memory.

python -m fuzz --seconds 600

`guided.py` is the same under libFuzzer, which looks for new code to reach.
"""
