"""Flavors and key pairs."""

from sqlalchemy import Column, Float, ForeignKey, Integer, UniqueConstraint

from nova_lite.db.models import columns
from nova_lite.db.models.base import Base, LongText, Row


class InstanceType(Row, Base):
    __tablename__ = "instance_types"
    constraints = (
        UniqueConstraint("name", "deleted", name="uniq_instance_types0name0deleted"),
        UniqueConstraint("flavorid", "deleted", name="uniq_instance_types0flavorid0deleted"),
    )

    id = columns.row_id()
    name = columns.short_text()
    memory_mb = Column(Integer, nullable=False)
    vcpus = Column(Integer, nullable=False)
    root_gb = Column(Integer)
    ephemeral_gb = Column(Integer)
    flavorid = columns.short_text()
    swap = Column(Integer, nullable=False, default=0)
    rxtx_factor = Column(Float, nullable=False, default=1.0)
    vcpu_weight = Column(Integer)
    disabled = columns.flag()
    is_public = columns.flag(True)


class InstanceTypeExtraSpec(Row, Base):
    __tablename__ = "instance_type_extra_specs"
    constraints = (UniqueConstraint("instance_type_id", "key", "deleted",
                                    name="uniq_instance_type_extra_specs0instance_type_id0key0deleted"),)

    id = columns.row_id()
    key = columns.short_text()
    value = columns.short_text()
    instance_type_id = Column(Integer, ForeignKey("instance_types.id"), nullable=False)


class InstanceTypeProject(Row, Base):
    __tablename__ = "instance_type_projects"
    constraints = (UniqueConstraint("instance_type_id", "project_id", "deleted",
                                    name="uniq_instance_type_projects0instance_type_id0project_id0deleted"),)

    id = columns.row_id()
    instance_type_id = Column(Integer, ForeignKey("instance_types.id"), nullable=False)
    project_id = columns.short_text()


class KeyPair(Row, Base):
    __tablename__ = "key_pairs"
    constraints = (UniqueConstraint("user_id", "name", "deleted", name="uniq_key_pairs0user_id0name0deleted"),)

    id = columns.row_id()
    name = columns.short_text()
    user_id = columns.short_text()
    fingerprint = columns.short_text()
    public_key = Column(LongText)
    type = columns.short_text(nullable=False, default="ssh", server_default="ssh")
