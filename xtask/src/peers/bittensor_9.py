"""The side of Python's `bittensor` 9 in `cargo xtask peers bittensor`: reads our development chain, writes to it, reads it again.

Takes one JSON object as its argument, prints one; amounts are rao.
"""

import json
import os
import sys

TASK = json.loads(sys.argv[1])
# What the package leaves behind belongs into the folder of this run, and our argument is none of its own.
os.environ["HOME"] = TASK["home"]
os.environ["BT_NO_PARSE_CLI_ARGS"] = "true"

import bittensor  # noqa: E402
from bittensor_wallet import Wallet  # noqa: E402

NETUID = TASK["netuid"]


def wallet(hotkey):
    return Wallet(name=TASK["wallet"], hotkey=hotkey, path=TASK["wallets"])


def view(subtensor):
    """What is compared with our own client."""
    metagraph = subtensor.metagraph(NETUID)
    neurons = subtensor.neurons_lite(NETUID)
    assert list(metagraph.hotkeys) == [neuron.hotkey for neuron in neurons]
    return {
        "block": subtensor.get_current_block(),
        "coldkey_rao": subtensor.get_balance(TASK["coldkey"]).rao,
        "other_rao": subtensor.get_balance(TASK["other"]).rao,
        "price_rao": subtensor.recycle(NETUID).rao,
        "tempo": subtensor.tempo(NETUID),
        "neurons": [
            {
                "uid": neuron.uid,
                "hotkey": neuron.hotkey,
                "coldkey": neuron.coldkey,
                "total_stake": neuron.total_stake.rao,
                "permit": bool(neuron.validator_permit),
                "active": bool(neuron.active),
                "last_update": neuron.last_update,
            }
            for neuron in neurons
        ],
        "commitment": subtensor.get_commitment(NETUID, 0),
        "weights": [[uid, [list(pair) for pair in row]] for uid, row in subtensor.weights(NETUID) if row],
    }


def main():
    subtensor = bittensor.Subtensor(network=TASK["endpoint"])
    before = view(subtensor)
    registered = subtensor.burned_register(wallet(TASK["newcomer"]), NETUID)
    transferred = subtensor.transfer(wallet(TASK["newcomer"]), TASK["other"], bittensor.Balance.from_rao(TASK["amount"]))
    weighed = subtensor.set_weights(
        wallet(TASK["validator"]), NETUID, uids=TASK["uids"], weights=TASK["weights"], wait_for_inclusion=True
    )
    committed = subtensor.commit(wallet(TASK["newcomer"]), NETUID, TASK["commitment"])
    # Nobody but validators may do this: the chain's refusal has to come back by its name. The package's own function would try for ever.
    weights = {"netuid": NETUID, "dests": TASK["uids"], "weights": TASK["weights"], "version_key": 0}
    call = subtensor.substrate.compose_call("SubtensorModule", "set_weights", weights)
    refused = subtensor.sign_and_send_extrinsic(call, wallet(TASK["newcomer"]), sign_with="hotkey")
    return {
        "version": bittensor.__version__,
        "before": before,
        "did": {
            "register": bool(registered),
            "transfer": bool(transferred),
            "set_weights": bool(weighed[0]),
            "commit": bool(committed),
            "newcomer_uid": subtensor.get_uid_for_hotkey_on_subnet(wallet(TASK["newcomer"]).hotkey.ss58_address, NETUID),
            "newcomer_commitment": subtensor.get_commitment(NETUID, 1),
        },
        "refused": str(refused),
        "after": view(subtensor),
    }


if __name__ == "__main__":
    print("JSON " + json.dumps(main()))
