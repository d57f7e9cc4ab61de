import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_lite.virt.xenapi.vmops import SimpleDH

VECTORS = [
    # host private, agent private, host public, agent public, shared, text, md5, sha256
    (123456789012345678901234, 1512366075204170929049582354406559215, 91223846617219412420445662667177,
     154791513613560069003758019439550, 31830625579050899893333590251578, "Sekr3t-Pa55\n",
     "dKJjnxXF7t50dFYQUwrpCg==", "GAKlS8pqxa3aipf0vnFIOA=="),
    (1208925819614629174706175, 1, 59421224823516443715133786982655, 5, 59421224823516443715133786982655, "",
     "FCaZK4zI13bf8KcTOJRv/A==", "3gwoerYdfHcAb6U5g4D2+Q=="),
    (2, 3, 25, 125, 15625, "0123456789abcde\n", "cuoWrzNIKubE1w0Zo+zA5nrAdihHxfHqeeuJTN/7puA=",
     "NYZ/rNAzOxd56Rjux3kSM+zAoIS08pvb6PE5ZgomtN0="),
    (316059037807746189465, 220182708007666064593948275397026489765, 98013499412720068566681986315768,
     95776526844582732127409406561219, 92561164204659607723912160019204, "pässwörd\n",
     "qXBZBzDGgXLkOWYN4HOkIQ==", "v8y9GqwCwZo1ELfpys+BQg=="),
    (987654321987654321987654, 120099658913272398869426332034741721690, 80450073562036976018185540119634,
     94330745451642868241652028364747, 49095129670148443520232584448669,
     "This is a fairly long password which spans more than three AES blocks\n",
     "GzvjxqrCG7SRwCGiGkCWAOOMbmewKniz+bhwB/3IgS6pBDBuwzrxVdMEAhrGYMGWUM5vSctOaQI/8X5f/V2F767G9Z4vrluzu+V2qJUkJEM=",
     "8QejYCy7h00aLisvd1Y05aqDvDb4h/ZYu315bU9i2xr5IBnrTPJOlcwB4f/8RKceyyGTaT+i028C55Hq7McYNxtYQ+ctm3ubIZibLozp0Kg="),
]


def exchange_with(private, other_public, digest="md5"):
    exchange = SimpleDH()
    exchange._private = private
    exchange._digest = digest
    exchange.compute_shared(other_public)
    return exchange


@pytest.mark.parametrize("vector", VECTORS)
def test_the_exchange_and_the_cipher_match_what_openssl_made(vector):
    host_private, agent_private, host_public, agent_public, shared, text, md5, sha256 = vector
    host, agent = SimpleDH(), SimpleDH()
    host._private, agent._private = host_private, agent_private

    assert host.get_public() == host_public and agent.get_public() == agent_public
    assert host.compute_shared(agent_public) == shared == agent.compute_shared(host_public)
    assert host.encrypt(text) == md5
    assert agent.decrypt(md5) == text
    assert exchange_with(host_private, agent_public, "sha256").encrypt(text) == sha256


@settings(max_examples=30)
@given(st.text(max_size=60))
def test_any_text_survives_with_all_its_newlines(text):
    exchange = exchange_with(99, 125)
    sealed = exchange.encrypt(text)
    assert "\n" not in sealed
    assert exchange.decrypt(sealed) == text


@pytest.mark.parametrize("text", ["a\n", "a\n\n\n", "a\nb", "\n\na", "x" * 4096])
def test_newlines_and_long_texts_survive(text):
    exchange = exchange_with(99, 125)
    assert exchange.decrypt(exchange.encrypt(text)) == text


@pytest.mark.parametrize("sealed", ["", "no base64!", "YWJj", "ä"])
def test_text_that_cannot_be_decrypted_is_a_runtime_error(sealed):
    with pytest.raises(RuntimeError):
        exchange_with(99, 125).decrypt(sealed)


def test_encrypting_before_the_exchange_is_a_runtime_error():
    with pytest.raises(RuntimeError, match="no shared secret"):
        SimpleDH().encrypt("text")


def test_another_secret_never_yields_the_text():
    sealed = exchange_with(99, 125).encrypt("password\n")
    with contextlib.suppress(RuntimeError):
        assert exchange_with(98, 125).decrypt(sealed) != "password\n"


def test_mod_exp_is_modular_power_and_one_for_exponent_zero():
    assert SimpleDH.mod_exp(7, 0, 5) == 1
    assert SimpleDH.mod_exp(5, 123456, 162259276829213363391578010288127) == pow(
        5, 123456, 162259276829213363391578010288127)


def test_a_new_exchange_has_a_private_key_of_80_bits_and_no_public_or_shared_one():
    exchange = SimpleDH()
    assert 0 < exchange._private < 2 ** 80
    assert exchange._public is None and exchange._shared is None
