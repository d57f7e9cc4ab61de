import pytest

from tests.fixtures.xen_client import Client
from tests.fixtures.xensim import logged_in
from tests.fixtures.xensim import xensim as xensim_fixture

xensim = xensim_fixture


@pytest.fixture
def client(xensim):
    with logged_in(xensim) as session:
        yield Client(session)
