"""One process each: reads N requests, answers with N decisions, prints what it took as one line of JSON.

``python -m bench.contenders.<name> SERVERS SUITE N``
"""
