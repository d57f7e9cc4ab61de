#!/usr/bin/env python3
"""Moves chains of VHD files between a storage repository and the image service."""

import contextlib
import gzip
import hashlib
import http.client
import io
import json
import os
import ssl
import tarfile
import urllib.parse

import kernel
import nova_lite_dom0 as dom0
import nova_lite_vhds as vhds
import XenAPIPlugin

TIMEOUT_S = 90
CHUNK_B = 1024 * 1024
LARGEST_REST_B = 16 * CHUNK_B
PERMANENT = frozenset([*range(400, 404), *range(405, 408), *range(409, 418), 422, 423, 424, 426, 501, 505, 510])
PATCH_TYPE = "application/openstack-images-v2.1-json-patch"


class ImageNotFound(dom0.PluginError):
    """The image is not there (any more)."""


def _connect(endpoint):
    parts = urllib.parse.urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise dom0.ArgumentError("Argument endpoint must be an http or https URL")
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S), parts.path.rstrip("/")
    context = ssl.create_default_context()
    return (http.client.HTTPSConnection(parts.hostname, parts.port, timeout=TIMEOUT_S, context=context),
            parts.path.rstrip("/"))


class ImageTooLarge(dom0.PluginError):
    """The disks of the image take more than the caller allows."""


@contextlib.contextmanager
def _connection(endpoint):
    connection, prefix = _connect(endpoint)
    try:
        yield connection, prefix
    except (OSError, http.client.HTTPException) as error:
        raise dom0.RetryableError(f"{endpoint.rpartition('@')[2]}: {error}") from error
    finally:
        connection.close()


def _judge(response, image_id):
    """Raise what a status other than 2xx means: gone, refused for good, or worth another try."""
    if 200 <= response.status < 300:
        return
    response.read()
    if response.status == 404:
        raise ImageNotFound(f"image {image_id} is not there")
    kind = dom0.PluginError if response.status in PERMANENT else dom0.RetryableError
    raise kind(f"{_answer(response)} for image {image_id}")


def _answer(response):
    return f"the image service answered {response.status} {response.reason}"


# Download -------------------------------------------------------------------------------------------------------------

class _Hashed(io.RawIOBase):
    """A response read to its end with its MD5."""

    def __init__(self, response):
        super().__init__()
        self.response = response
        self.digest = hashlib.md5()

    def read(self, size=-1):
        block = self.response.read(CHUNK_B if size is None or size < 0 else size)
        self.digest.update(block)
        return block

    def drain(self):
        """Read what follows the archive, which is little: a stream without an end is no image."""
        for _ in range(LARGEST_REST_B // CHUNK_B):
            if not self.read(CHUNK_B):
                return
        raise dom0.PluginError("the image does not end with its archive")


def _download(image_id, endpoint, sr_path, headers, uuid_stack, api_version, largest_b):
    dom0.checked(image_id, "image_id")
    path = f"/v2/images/{image_id}/file" if api_version == 2 else f"/v1/images/{image_id}"
    with vhds.staging_area(sr_path) as staging:
        with _connection(endpoint) as (connection, prefix):
            connection.request("GET", prefix + path, headers=_safe_headers(headers))
            response = connection.getresponse()
            if not 200 <= response.status < 300:
                # Another server may have it, so that any answer is worth another try.
                raise dom0.RetryableError(f"{_answer(response)} for image {image_id}")
            stream = _Hashed(response)
            _unpack(stream, staging, largest_b)
            stream.drain()
            _check_md5(stream, response)
        return vhds.move_in(sr_path, staging, uuid_stack)


def _unpack(stream, staging, largest_b):
    """Take the disks out of the archive; nothing else in it touches the file system."""
    left_b = largest_b or _free_b(staging)
    count = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|gz", bufsize=CHUNK_B) as archive:
            for member in archive:
                name = os.path.basename(member.name)
                if not member.isfile() or not name.endswith(".vhd") or name == "swap.vhd":
                    continue
                count += 1
                left_b -= member.size
                if left_b < 0 and largest_b:
                    raise ImageTooLarge(f"the image is larger than the {largest_b} bytes it may have")
                if left_b < 0 or count > vhds.LONGEST_CHAIN:
                    raise dom0.PluginError("the image is larger than there is room for")
                with open(os.path.join(staging, dom0.checked(name, "member")), "xb") as disk:
                    _copy(archive.extractfile(member), disk)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, FileExistsError):
            raise dom0.PluginError("the image holds a disk twice") from error
        raise dom0.RetryableError(f"the image cannot be unpacked: {error}") from error


def _copy(source, target):
    while True:
        block = source.read(CHUNK_B)
        if not block:
            return
        target.write(block)


def _free_b(path):
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _check_md5(stream, response):
    for name in ("etag", "content-md5", "x-image-meta-checksum"):
        expected = response.getheader(name, "").strip('"').lower()
        if len(expected) == 32:
            if stream.digest.hexdigest() != expected:
                raise dom0.RetryableError("the checksum of the image is wrong")
            return


def _safe_headers(headers):
    return {str(name): str(value) for name, value in (headers or {}).items()
            if "\n" not in f"{name}{value}" and "\r" not in f"{name}{value}"}


@dom0.serialized
def download_vhd2(session, image_id, endpoint, uuid_stack, sr_path, extra_headers=None, api_version=1, largest_b=0):
    """Fetch an image into the repository; returns {"root": {"uuid"}}. It may need `largest_b`, 0: the free room."""
    leaf = _download(image_id, endpoint, sr_path, extra_headers, list(uuid_stack), api_version, largest_b)
    return {"root": {"uuid": leaf}}


@dom0.serialized
def download_vhd(session, image_id, glance_host, glance_port, uuid_stack, sr_path, auth_token=None, num_retries=0):
    """The earlier form of download_vhd2; returns [{"vdi_type", "vdi_uuid"}]."""
    headers = {"x-auth-token": auth_token} if auth_token else {}
    leaf = _download(image_id, f"http://{glance_host}:{int(glance_port)}", sr_path, headers, list(uuid_stack), 1, 0)
    return [{"vdi_type": "os", "vdi_uuid": leaf}]


# Upload ---------------------------------------------------------------------------------------------------------------

class _Chunks:
    """A file-like object that sends what is written to it as chunks of an HTTP request."""

    def __init__(self, connection):
        self._connection = connection

    def write(self, block):
        if block:
            self._connection.send(b"%x\r\n" % len(block) + block + b"\r\n")
        return len(block)

    def flush(self):
        """Nothing is held back."""

    def end(self):
        self._connection.send(b"0\r\n\r\n")


def _upload(vdi_uuids, image_id, endpoint, sr_path, headers, properties, api_version):
    dom0.checked(image_id, "image_id")
    with vhds.staging_area(sr_path) as staging:
        vhds.link_out(sr_path, staging, vdi_uuids)
        with _connection(endpoint) as (connection, prefix):
            if api_version == 2:
                _describe(connection, prefix, image_id, headers, properties)
                path, own = f"/v2/images/{image_id}/file", {"content-type": "application/octet-stream"}
            else:
                path, own = f"/v1/images/{image_id}", _v1_headers(properties)
            connection.putrequest("PUT", prefix + path)
            for name, value in {**_safe_headers(headers), **own, "transfer-encoding": "chunked"}.items():
                connection.putheader(name, value)
            connection.endheaders()
            _send(connection, staging, properties)
            response = connection.getresponse()
            _judge(response, image_id)
            response.read()


def _send(connection, staging, properties):
    level = int(properties.get("xenapi_image_compression_level") or 6)
    chunks = _Chunks(connection)
    with gzip.GzipFile(fileobj=chunks, mode="wb", compresslevel=level) as packed, \
            tarfile.open(fileobj=packed, mode="w|", bufsize=CHUNK_B) as archive:
        for name in vhds.chain_of(staging):
            archive.add(os.path.join(staging, name), arcname=name)
    chunks.end()


def _describe(connection, prefix, image_id, headers, properties):
    """Set format and properties of a queued image. Raises PluginError for an image in another state."""
    own = _safe_headers(headers)
    connection.request("GET", f"{prefix}/v2/images/{image_id}", headers=own)
    response = connection.getresponse()
    _judge(response, image_id)
    status = json.loads(response.read().decode()).get("status")
    if status != "queued":
        raise dom0.PluginError(f"image {image_id} is {status}, not queued")
    changes = {"container_format": "ovf", "disk_format": "vhd", "visibility": "private", **properties}
    patch = [{"op": "add", "path": "/" + name.replace("~", "~0").replace("/", "~1"), "value": value}
             for name, value in changes.items()]
    connection.request("PATCH", f"{prefix}/v2/images/{image_id}", body=json.dumps(patch),
                       headers={**own, "content-type": PATCH_TYPE})
    response = connection.getresponse()
    _judge(response, image_id)
    response.read()


def _v1_headers(properties):
    own = {"content-type": "application/octet-stream", "x-image-meta-is-public": "False",
           "x-image-meta-status": "queued", "x-image-meta-disk-format": "vhd", "x-image-meta-container-format": "ovf",
           "x-glance-registry-purge-props": "False"}
    for name, value in properties.items():
        own["x-image-meta-property-{}".format(name.replace("_", "-"))] = str(value)
    return _safe_headers(own)


@dom0.serialized
def upload_vhd2(session, vdi_uuids, image_id, endpoint, sr_path, extra_headers=None, properties=None, api_version=1):
    """Send a chain, uuids leaf first, to an image that waits for its content."""
    _upload(vdi_uuids, image_id, endpoint, sr_path, extra_headers, properties or {}, api_version)
    return ""


@dom0.serialized
def upload_vhd(session, vdi_uuids, image_id, glance_host, glance_port, sr_path, auth_token=None, properties=None):
    """The earlier form of upload_vhd2: vdi_uuids {"base", "image", "snap"}."""
    chain = [vdi_uuids[name] for name in ("snap", "image", "base") if vdi_uuids.get(name)]
    headers = {"x-auth-token": auth_token} if auth_token else {}
    _upload(chain, image_id, f"http://{glance_host}:{int(glance_port)}", sr_path, headers, properties or {}, 1)
    return ""


if __name__ == "__main__":
    XenAPIPlugin.dispatch({
        "download_vhd": download_vhd,
        "download_vhd2": download_vhd2,
        "upload_vhd": upload_vhd,
        "upload_vhd2": upload_vhd2,
        # Where these were before they had a plugin of their own.
        "copy_kernel_vdi": kernel.copy_vdi,
        "create_kernel_ramdisk": kernel.create_kernel_ramdisk,
        "remove_kernel_ramdisk": kernel.remove_kernel_ramdisk,
    })
