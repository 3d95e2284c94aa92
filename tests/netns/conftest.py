"""Two linked hosts with a daemon each; demo/lab.py makes and ends them."""

import pytest
from lab import Lab, config, two_hosts


@pytest.fixture(scope="module")
def pair():
    """Hosts a and b with everything, daemons running."""
    with Lab() as lab:
        a, b = two_hosts(lab)
        a.start(config(1, 2))
        b.start(config(2, 1))
        yield a, b


@pytest.fixture
def lab():
    """An empty lab."""
    with Lab() as lab:
        yield lab
