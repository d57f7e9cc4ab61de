#!/usr/bin/env python3
"""Hands requests to the agent inside a guest, through xenstore, and brings back its answers."""

import base64
import json
import time

import nova_lite_dom0 as dom0
import XenAPIPlugin

DEFAULT_TIMEOUT_S = 30
FIRST_POLL_S = 0.05
POLL_S = 0.5


class TimeoutFailure(Exception):
    """The agent did not answer."""


class RebootFailure(Exception):
    """The domain went away while its agent was asked."""


def _ask(args, name, value):
    """Put a request where the agent looks and wait for the answer; both are removed afterwards."""
    root = f"/local/domain/{dom0.domain(args)}"
    request_id = dom0.validated(args, "id")
    timeout_s = float(args.get("timeout") or DEFAULT_TIMEOUT_S)
    request, response = f"{root}/data/host/{request_id}", f"{root}/data/guest/{request_id}"
    dom0.xenstore_write(request, json.dumps({"name": name, "value": value}))
    deadline = time.time() + timeout_s
    pause_s = FIRST_POLL_S
    while True:
        answer = dom0.xenstore_read(response)
        if answer is not None:
            dom0.xenstore_remove(response)
            return answer
        if time.time() >= deadline:
            dom0.xenstore_remove(request)
            raise TimeoutFailure(f"TIMEOUT: No response from agent within {timeout_s:.0f} seconds.")
        if dom0.xenstore_read(root + "/name") is None:
            raise RebootFailure("REBOOT: dom_id {} no longer present".format(args["dom_id"]))
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, POLL_S)


def version(session, args):
    """Ask for the agent's version."""
    return _ask(args, "version", "agent")


def key_init(session, args):
    """Begin a key exchange; `pub` is a decimal text, an int crashes old agents."""
    return _ask(args, "keyinit", str(dom0.exists(args, "pub")))


def password(session, args):
    """Set the administrator's password."""
    return _ask(args, "password", dom0.exists(args, "enc_pass"))


def resetnetwork(session, args):
    """Have the guest apply host name and network from its xenstore."""
    return _ask(args, "resetnetwork", "")


def agentupdate(session, args):
    """Have the agent fetch and install another version of itself."""
    return _ask(args, "agentupdate", "{},{}".format(dom0.exists(args, "url"), dom0.exists(args, "md5sum")))


def inject_file(session, args):
    """Write a file in the guest, by whichever command its agent has."""
    b64_path, b64_contents = dom0.exists(args, "b64_path"), dom0.exists(args, "b64_contents")
    features = _features(args)
    if "file_inject" in features:
        return _ask(_again(args), "file_inject", {"b64_path": b64_path, "b64_file": b64_contents})
    if "injectfile" in features:
        path, contents = base64.b64decode(b64_path), base64.b64decode(b64_contents)
        return _ask(_again(args), "injectfile", base64.b64encode(path + b"," + contents).decode())
    raise NotImplementedError("NOT IMPLEMENTED: Agent does not support file injection.")


def _features(args):
    answer = json.loads(_ask(args, "features", ""))
    return answer["message"].split(",") if str(answer["returncode"]) == "0" else []


def _again(args):
    """A second request of one call needs an id of its own."""
    again = dict(args)
    again["id"] = "{}-2".format(args["id"])
    return again


if __name__ == "__main__":
    XenAPIPlugin.dispatch({
        "version": version,
        "key_init": key_init,
        "password": password,
        "resetnetwork": resetnetwork,
        "agentupdate": agentupdate,
        "inject_file": inject_file,
    })
