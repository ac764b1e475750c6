"""Top-1 and top-5 errors on labelled pictures, and what explains a wrong one."""
