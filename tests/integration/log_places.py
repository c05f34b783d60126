"""A folder and a bucket to write logs to, with the same calls; keys are paths below the root."""

import shutil
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import boto3
from botocore.config import Config

from include.chimera.sources.api_logs.log_files import log_root
from include.chimera.sources.stored.stored_roots import stored_root
from tests.integration.object_store import BUCKET, KEY, SECRET


class Folder:
    """Logs in a folder of this machine."""

    def __init__(self, path):
        self.path = Path(path)
        self.path.mkdir(exist_ok=True)

    @property
    def url(self):
        return str(self.path)

    @property
    def root(self):
        return log_root(self.url)

    def root_of(self, purpose):
        return stored_root(self.url, purpose)

    def put(self, key, content):
        self.repeat(key, content, 1)

    def repeat(self, key, content, times):
        path = self.path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for _ in range(times):
                file.write(content)

    def get(self, key):
        return (self.path / key).read_bytes()

    def delete(self, key):
        (self.path / key).unlink()

    def rename(self, key, other):
        (self.path / key).rename(self.path / other)

    def empty(self):
        shutil.rmtree(self.path)
        self.path.mkdir()


class Bucket:
    """Logs below a folder of a bucket that nobody else uses."""

    def __init__(self, store, bucket=BUCKET):
        self.client = client_of(store.url)
        self.bucket, self.folder = bucket, f"logs {uuid4().hex}"
        self.put("", b"")

    @property
    def url(self):
        return f"s3://{self.bucket}/{self.folder}"

    @property
    def root(self):
        return log_root(self.url, self.client)

    def root_of(self, purpose):
        return stored_root(self.url, purpose, self.client)

    def key(self, key):
        return {"Bucket": self.bucket, "Key": f"{self.folder}/{key}"}

    def put(self, key, content):
        self.client.put_object(**self.key(key), Body=content)

    def repeat(self, key, content, times):
        """Put a long object in parts."""
        name = self.key(key)
        upload = {**name, "UploadId": self.client.create_multipart_upload(**name)["UploadId"]}
        parts = []
        for number in range(1, times + 1):
            done = self.client.upload_part(**upload, PartNumber=number, Body=content)
            parts.append({"PartNumber": number, "ETag": done["ETag"]})
        self.client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})

    def get(self, key):
        return self.client.get_object(**self.key(key))["Body"].read()

    def delete(self, key):
        self.client.delete_object(**self.key(key))

    def rename(self, key, other):
        self.client.copy_object(**self.key(other), CopySource=self.key(key))
        self.delete(key)

    def empty(self):
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=f"{self.folder}/"):
            for entry in page.get("Contents", ()):
                with suppress(self.client.exceptions.NoSuchKey):
                    self.client.delete_object(Bucket=self.bucket, Key=entry["Key"])
        self.put("", b"")


def client_of(url, key=KEY, secret=SECRET):
    """Return a client of a server."""
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}),
    )
