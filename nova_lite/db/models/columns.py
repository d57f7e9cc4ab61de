"""Kinds of columns that many tables have."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, String


def row_id():
    return Column(Integer, primary_key=True, autoincrement=True)


def short_text(**kwargs):
    return Column(String(255), **kwargs)


def uuid(**kwargs):
    return Column(String(36), **kwargs)


def instance_uuid(**kwargs):
    return Column(String(36), ForeignKey("instances.uuid"), **kwargs)


def flag(default=False):
    return Column(Boolean, default=default, nullable=False)


def count():
    return Column(BigInteger, default=0)
