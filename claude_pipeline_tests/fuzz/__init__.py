"""Any input, and what must hold of it: a small fixed form in every test run, the long one by `make fuzz`.

`claim.py` has both forms, `test_*.py` one claim each about one border of the product; `guided.py` looks for ways into
the result parser that no example has taken yet.
"""
