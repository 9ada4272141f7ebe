"""The Python wallet's side of `cargo xtask peers wallet`: opens what templar wrote, and writes what templar opens.

Prints one JSON object; a key is told by its address, its kind and a signature of "hello" in hexadecimal.
"""

import json
import sys

from bittensor_wallet import Keypair, Wallet


def told(key):
    return {"account": key.ss58_address, "key_type": key.crypto_type, "signature": key.sign(b"hello").hex()}


def read(path, password):
    """Opens the wallet `ours` with all its forms."""
    wallet = Wallet(name="ours", hotkey="plain", path=path)
    keys = {"coldkey": told(wallet.get_coldkey(password=password)), "hotkey plain": told(wallet.get_hotkey())}
    keys["hotkey locked"] = told(Wallet(name="ours", hotkey="locked", path=path).get_hotkey(password=password))
    keys["hotkey ed25519"] = told(Wallet(name="ours", hotkey="ed25519", path=path).get_hotkey())
    keys["hotkey uri"] = told(Wallet(name="ours", hotkey="uri", path=path).get_hotkey())
    assert wallet.coldkeypub.ss58_address == keys["coldkey"]["account"]
    assert wallet.hotkeypub.ss58_address == keys["hotkey plain"]["account"]
    return keys


def write(path, password):
    """Makes the wallet `theirs` in all the forms that this package writes."""
    wallet = Wallet(name="theirs", hotkey="plain", path=path)
    wallet.create_new_coldkey(n_words=24, use_password=True, overwrite=False, suppress=True, coldkey_password=password)
    wallet.create_new_hotkey(n_words=12, use_password=False, overwrite=False, suppress=True)
    locked = Wallet(name="theirs", hotkey="locked", path=path)
    locked.create_new_hotkey(n_words=12, use_password=True, overwrite=False, suppress=True, hotkey_password=password)
    ed25519 = Wallet(name="theirs", hotkey="ed25519", path=path)
    ed25519.set_hotkey(Keypair.create_from_mnemonic(Keypair.generate_mnemonic(15), crypto_type=0))
    uri = Wallet(name="theirs", hotkey="uri", path=path)
    uri.create_hotkey_from_uri("//Alice//hot", suppress=True)
    return {
        "coldkey": told(wallet.get_coldkey(password=password)),
        "hotkey plain": told(wallet.get_hotkey()),
        "hotkey locked": told(locked.get_hotkey(password=password)),
        "hotkey ed25519": told(ed25519.get_hotkey()),
        "hotkey uri": told(uri.get_hotkey()),
    }


def verify(account, key_type, signature):
    key = Keypair(ss58_address=account, crypto_type=int(key_type))
    return {"valid": key.verify(b"hello", bytes.fromhex(signature))}


TASKS = {"read": read, "write": write, "verify": verify}

if __name__ == "__main__":
    _, task, *arguments = sys.argv
    if task in ("read", "write"):
        # The password comes by standard input, as it would in earnest.
        arguments.append(sys.stdin.readline().rstrip("\n"))
    print("JSON " + json.dumps(TASKS[task](*arguments)))
