"""The side of Python's `bittensor` 11 in `cargo xtask peers bittensor`: reads our development chain, writes to it, reads it again.

Takes one JSON object as its argument, prints one; amounts are rao. A registration is sent as a plain call: the package would send it
encrypted to the block's author, which the development chain has no use for.
"""

import json
import os
import sys

TASK = json.loads(sys.argv[1])
# What the package leaves behind belongs into the folder of this run.
os.environ["HOME"] = TASK["home"]

import bittensor  # noqa: E402

NETUID = TASK["netuid"]


def wallet(hotkey):
    return bittensor.Wallet(TASK["wallet"], hotkey, TASK["wallets"])


def view(subtensor):
    """What is compared with our own client."""
    metagraph = subtensor.subnets.metagraph(NETUID)
    rows = subtensor.query_map(bittensor.storage.SubtensorModule.Weights, [NETUID])
    neurons = subtensor.read("neurons", netuid=NETUID)
    assert [neuron.hotkey for neuron in neurons] == metagraph.hotkeys
    return {
        "block": subtensor.block,
        "coldkey_rao": subtensor.balances.balance(coldkey_ss58=TASK["coldkey"]).rao,
        "other_rao": subtensor.balances.balance(coldkey_ss58=TASK["other"]).rao,
        "price_rao": subtensor.subnets.burn(NETUID).rao,
        "tempo": metagraph.tempo,
        "neurons": [
            {
                "uid": neuron.uid,
                "hotkey": neuron.hotkey,
                "coldkey": neuron.coldkey,
                "total_stake": neuron.total_stake.rao,
                "permit": neuron.validator_permit,
                "active": neuron.active,
                "last_update": neuron.last_update,
            }
            for neuron in metagraph.neurons
        ],
        "commitment": metagraph.neurons[0].commitment.value,
        "weights": [[int(uid), [[int(to), int(share)] for to, share in row]] for uid, row in rows if row],
    }


def main():
    subtensor = bittensor.Subtensor(TASK["endpoint"])
    before = view(subtensor)
    newcomer = wallet(TASK["newcomer"]).hotkey.ss58_address
    register = bittensor.calls.SubtensorModule.burned_register(netuid=NETUID, hotkey=newcomer)
    registered = subtensor.submit_call(register, wallet(TASK["newcomer"]))
    transfer = bittensor.Transfer(dest_ss58=TASK["other"], amount_tao=bittensor.Balance.from_rao(TASK["amount"]))
    transferred = subtensor.execute(transfer, wallet(TASK["newcomer"]))
    weights = bittensor.SetWeights(netuid=NETUID, uids=TASK["uids"], weights=TASK["weights"])
    weighed = subtensor.execute(weights, wallet(TASK["validator"]))
    fields = {"fields": [[{f"Raw{len(TASK['commitment'])}": TASK["commitment"].encode()}]]}
    commit = bittensor.calls.Commitments.set_commitment(netuid=NETUID, info=fields)
    committed = subtensor.submit_call(commit, wallet(TASK["newcomer"]), signer="hotkey")
    refused = subtensor.execute(weights, wallet(TASK["newcomer"]))
    after = view(subtensor)
    for result in (registered, transferred, weighed, committed):
        if not result.success:
            print(result, file=sys.stderr)
    return {
        "version": bittensor.__version__,
        "before": before,
        "did": {
            "register": registered.success,
            "transfer": transferred.success,
            "set_weights": weighed.success,
            "commit": committed.success,
            "newcomer_uid": subtensor.read("uid", hotkey_ss58=newcomer, netuid=NETUID),
            "newcomer_commitment": subtensor.identity.commitment(netuid=NETUID, hotkey_ss58=newcomer).data,
        },
        "refused": str(refused.error and refused.error.name),
        "after": after,
    }


if __name__ == "__main__":
    print("JSON " + json.dumps(main()))
