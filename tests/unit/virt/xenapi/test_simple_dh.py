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


@pytest.mark.parametrize(("vector", "keys"), list(zip(VECTORS, [
    ("6422A7D1E9816AE41F5FB448B4FFDE48", "EA8382AA1F22DD434272901CEE7F0C2F",
     "AF7E4F44AF61EA79D6DE25BFF3E02C07", "046793EE6940B0658A2721E6D65AD69A"),
    ("D15925F7035791A80E8EF9A797B170A1", "CE1197665AC8921E7CA68BD0D92C89B4",
     "D3175A8E510A202D97821914BAC814A2", "C5069FAD91B42689420DD54047CBA8EF"),
    ("C68BE333FFF4FA046483AFC41678962E", "4D437A8B122513125CFB1B5CDA3351FA",
     "E98A237FDC1BC28622EBBE07C65440F1", "D66006680A58646E0FD06B866D3B8EC4"),
    ("0818D422A143D9E8E3D7286BE9C42CA8", "A752C2EDA1782D2CF5935FCD4D7009C2",
     "277CDFEF121BDF1B063EC992E20DC0E7", "9BB688B425BACE0897EC5E9EFE95DD86"),
    ("F2895943DC7144BE21262C9471AA4466", "A98E2F52A57A5A2CD703B466F85509AF",
     "02B34701CF90CAF3DE62F22F3495FAA6", "9D6025BC3F523AE52D17D8FEB659855D")], strict=True)))
def test_key_and_start_are_openssls_without_a_salt(vector, keys):
    passphrase = str(vector[4]).encode()
    found = (*SimpleDH()._key_and_iv(passphrase), *exchange_with(1, 5, "sha256")._key_and_iv(passphrase))
    assert tuple(part.hex().upper() for part in found) == keys


def test_a_text_that_was_wrapped_into_lines_is_read():
    *_, text, md5, _ = VECTORS[4]
    exchange = exchange_with(VECTORS[4][0], VECTORS[4][3])
    assert exchange.decrypt(f"{md5[:64]}\n{md5[64:]}\n") == text == exchange.decrypt(md5.encode())


@pytest.mark.parametrize("sealed", [
    "ALSD3e8+DMHc1VG3qIr7gw==", "U2FsdGVkX18BAgMEBQYHCAC0g93vPgzB3NVRt6iK+4M=", "GAKlS8pqxa3aipf0vnFIOA=="])
def test_what_was_sealed_with_a_salt_or_another_digest_is_not_the_text(sealed):
    with contextlib.suppress(RuntimeError):
        assert exchange_with(VECTORS[0][0], VECTORS[0][3]).decrypt(sealed) != "Sekr3t-Pa55\n"


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


@pytest.mark.parametrize("sealed", ["", "no base64!", "YWJj", "ä", "dKJjnxXF7t50!dFYQUwrpCg==", b"\xff"])
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
