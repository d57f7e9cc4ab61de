#!/usr/bin/env python3
"""The XenAPI of another host. No plugin itself.

A certificate is checked by its fingerprint where one is given, else by who signed it.
"""

import hashlib
import http.client
import ssl
import urllib.parse
import xmlrpc.client

import XenAPIPlugin

TIMEOUT_S = 600


class _Transport(xmlrpc.client.Transport):
    def __init__(self, is_tls, fingerprints):
        super().__init__()
        self._is_tls = is_tls
        self._fingerprints = fingerprints

    def make_connection(self, host):
        if not self._is_tls:
            return http.client.HTTPConnection(host, timeout=TIMEOUT_S)
        context = ssl.create_default_context()
        if not self._fingerprints:
            return http.client.HTTPSConnection(host, timeout=TIMEOUT_S, context=context)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, timeout=TIMEOUT_S, context=context)
        connection.connect()
        found = hashlib.sha256(connection.sock.getpeercert(binary_form=True)).hexdigest()
        if found not in self._fingerprints:
            connection.close()
            raise ssl.SSLError("the certificate is none of those that are accepted")
        return connection


class Session:
    """Calls at `url`; `fingerprints` are SHA-256 in hexadecimal, separated by commas."""

    def __init__(self, url, fingerprints=""):
        parts = urllib.parse.urlsplit(url)
        accepted = {each.replace(":", "").strip().lower() for each in fingerprints.split(",") if each.strip()}
        self._proxy = xmlrpc.client.ServerProxy(f"{parts.scheme}://{parts.netloc}", allow_none=True,
                                                transport=_Transport(parts.scheme == "https", accepted))
        self._handle = None

    def log_in(self, user, password):
        """Log in; the session ends with the host's patience: joining a pool ends it anyway."""
        self._handle = self._call("session.login_with_password", user, password, "1.0", "nova_lite")

    def call(self, method, *args):
        """Call `Class.method` and return its value. Raises XenAPIPlugin.Failure."""
        return self._call(method, self._handle, *args)

    def _call(self, method, *args):
        answer = getattr(self._proxy, method)(*args)
        if answer["Status"] != "Success":
            raise XenAPIPlugin.Failure(answer["ErrorDescription"][0], answer["ErrorDescription"][1:])
        return answer["Value"]
