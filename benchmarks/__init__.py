"""How fast it answers, beside what else could have answered: `make bench`.

`python -m benchmarks.serving` compares ways to serve the same model,
`python -m benchmarks.concurrency` ways to share one session between requests.
"""
