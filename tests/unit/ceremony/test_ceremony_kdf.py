from __future__ import annotations

from drengine.ceremony.kdf import derive_content_key, derive_key


def test_the_published_vector_of_counter_mode_holds():
    derived = derive_key(b"\x41" * 32, "label", "context", 256)
    assert derived.hex() == "f0ca51f6308791404bf68b56024ee7c64d6c737716f81d47e1e68b5c4e399575"


def test_a_content_key_is_the_first_block_for_its_tag(writer):
    master = bytes(range(32))
    assert derive_content_key(master, "hsm_backup") == writer.content_key(master, "hsm_backup")
    assert derive_content_key(master, "hsm_backup") != derive_content_key(master, "other")


def test_longer_keys_go_on_with_new_blocks():
    derived = derive_key(b"k", "l", "", 1536)
    blocks = {derived[at : at + 64] for at in (0, 64, 128)}
    assert len(derived) == 192
    assert len(blocks) == 3
