"""Tokens that open consoles."""

import pytest
import sqlalchemy

from nova_lite import exception
from nova_lite.db import models

TOKEN = "1f6b7b4e-6a0f-4d55-9b53-3f6a0f4d559b"
URL = f"http://proxy:6080/vnc_auto.html?token={TOKEN}"


@pytest.fixture
def tokens(cell):
    return cell.services.console_tokens


def authorize(cell, tokens, instance, token=TOKEN):
    tokens.authorize_console(cell.context(), token, "novnc", "10.0.0.1", "5900", "/console?uuid=x", instance.uuid,
                             access_url=URL)


def test_a_token_opens_the_console_it_was_made_for(cell, tokens):
    host = cell.add_host("h1")
    host.answers["validate_console_port"] = True
    instance = cell.instance()
    authorize(cell, tokens, instance)

    opened = tokens.check_token(cell.context(), TOKEN)

    assert (opened["host"], opened["port"], opened["internal_access_path"]) == ("10.0.0.1", 5900, "/console?uuid=x")
    assert (opened["instance_uuid"], opened["token"]) == (instance.uuid, TOKEN)
    method, arguments = host.heard()
    assert (method, arguments["port"], arguments["console_type"]) == ("validate_console_port", 5900, "novnc")


def test_a_token_expires(cell, tokens):
    cell.add_host("h1").answers["validate_console_port"] = True
    authorize(cell, tokens, cell.instance())

    cell.clock.advance(599)
    assert tokens.check_token(cell.context(), TOKEN)
    cell.clock.advance(1)
    assert tokens.check_token(cell.context(), TOKEN) is None


def test_an_unknown_token_opens_nothing(cell, tokens):
    assert tokens.check_token(cell.context(), "guess") is None


def test_a_token_of_a_console_that_moved_opens_nothing(cell, tokens):
    cell.add_host("h1").answers["validate_console_port"] = False
    authorize(cell, tokens, cell.instance())

    assert tokens.check_token(cell.context(), TOKEN) is None


def test_a_token_of_an_instance_that_is_gone_opens_nothing(cell, tokens):
    instance = cell.instance()
    authorize(cell, tokens, instance)
    instance.destroy()

    assert tokens.check_token(cell.context(), TOKEN) is None


def test_tokens_of_an_instance_can_be_taken_back(cell, tokens):
    cell.add_host("h1").answers["validate_console_port"] = True
    instance, other = cell.instance(), cell.instance()
    authorize(cell, tokens, instance)
    authorize(cell, tokens, other, "other")

    tokens.delete_tokens_for_instance(cell.context(), instance.uuid)

    assert tokens.check_token(cell.context(), TOKEN) is None
    assert tokens.check_token(cell.context(), "other")


def test_the_token_itself_is_nowhere_in_the_database(cell, tokens):
    authorize(cell, tokens, cell.instance())

    with cell.db.reader(cell.admin()) as session:
        rows = session.all(sqlalchemy.select(models.ConsoleAuthToken.__table__))
    assert len(rows) == 1
    assert TOKEN not in repr(rows)


def test_proxies_elsewhere_ask_by_rpc(cell, tokens):
    cell.add_host("h1").answers["validate_console_port"] = True
    authorize(cell, tokens, cell.instance())
    cell.serve("consoleauth", tokens, "api")
    client = cell.services.rpc.client("consoleauth", version="2.0")

    assert client.call(cell.context(), "check_token", token=TOKEN)["port"] == 5900
    client.call(cell.context(), "authorize_console", version="2.1", token="t", console_type="novnc", host="h", port=1,
                internal_access_path=None, instance_uuid=cell.instance().uuid)


def test_a_user_gets_the_address_of_the_console(cell, tokens):
    host = cell.add_host("h1")
    host.answers["get_vnc_console"] = {"token": TOKEN, "host": "10.0.0.1", "port": 443, "access_url": URL,
                                       "internal_access_path": "/console"}
    host.answers["validate_console_port"] = True
    instance = cell.instance()

    assert cell.api.get_vnc_console(cell.context(), instance, "novnc") == {"url": URL}

    assert tokens.check_token(cell.context(), TOKEN)["instance_uuid"] == instance.uuid


def test_an_instance_on_no_host_has_no_console(cell):
    with pytest.raises(exception.InstanceNotReady):
        cell.api.get_vnc_console(cell.context(), cell.instance(host=None), "novnc")


def test_tokens_that_have_expired_are_forgotten_from_time_to_time(cell, tokens):
    cell.add_host("h1").answers["validate_console_port"] = True
    authorize(cell, tokens, cell.instance())
    rows = sqlalchemy.select(sqlalchemy.func.count()).select_from(models.ConsoleAuthToken.__table__)

    def kept():
        with cell.services.db.reader(None) as session:
            return session.execute(rows).scalar()

    tokens.periodic_tasks(cell.admin())
    before = kept()
    cell.clock.advance(cell.services.conf.console_token_ttl + 1)
    again_in_s = tokens.periodic_tasks(cell.admin())

    assert (before, kept()) == (1, 0)
    assert again_in_s > 0
