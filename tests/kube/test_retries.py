"""How long what failed is left alone."""

from __future__ import annotations

from polyvisor.kube.backoff import Backoff, Retries


def test_each_failure_of_a_key_waits_longer_until_it_works() -> None:
    now = [0.0]
    retries: Retries[str] = Retries(Backoff(base=1.0, cap=3.0, jitter=0.0), lambda: now[0])
    assert retries.left("a") == 0.0
    assert [retries.failed("a") for _ in range(3)] == [1.0, 2.0, 3.0]
    now[0] = 1.0
    assert (retries.left("a"), retries.failures("a")) == (2.0, 3)
    assert (retries.left("b"), retries.failures("b")) == (0.0, 0)
    retries.worked("a")
    assert (retries.left("a"), retries.failed("a")) == (0.0, 1.0)
