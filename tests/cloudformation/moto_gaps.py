"""What moto 5.2.5's CloudFormation lacks of AWS's, and this template uses. Importing it fills the gaps.

- AWS::NoValue in a list stays there as null; AWS takes the entry out.
- AWS::KMS::Key fails on tags, which it reads by KMS's names of their members.
- AWS::SQS::QueuePolicy and AWS::EKS::PodIdentityAssociation are not known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from moto.cloudformation import parsing
from moto.core.common_models import CloudFormationModel
from moto.kms.models import Key
from moto.sqs.models import sqs_backends

_clean_json = parsing.clean_json
_create_key = Key.create_from_cloudformation_json.__func__


def _clean_without_nulls(resource_json: Any, resources_map: Any) -> Any:
    cleaned = _clean_json(resource_json, resources_map)
    return [entry for entry in cleaned if entry is not None] if isinstance(cleaned, list) else cleaned


def _create_key_with_tags(
    cls: type[Key], resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **more: Any
) -> Key:
    tags = cloudformation_json["Properties"].pop("Tags", [])
    key = _create_key(cls, resource_name, cloudformation_json, account_id, region_name, **more)
    key.tags_given = {tag["Key"]: tag["Value"] for tag in tags}
    return key


parsing.clean_json = _clean_without_nulls
Key.create_from_cloudformation_json = classmethod(_create_key_with_tags)


class _Named:
    """A resource that is no more than its name. (moto knows the direct subclasses of CloudFormationModel only.)"""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def physical_resource_id(self) -> str:
        return self.name

    @staticmethod
    def cloudformation_name_type() -> str:
        return ""


class QueuePolicy(_Named, CloudFormationModel):  # type: ignore[misc]
    """Sets the resolved document on each of its queues."""

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::SQS::QueuePolicy"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> QueuePolicy:
        properties = cloudformation_json["Properties"]
        for url in properties["Queues"]:
            queues = sqs_backends[account_id][region_name]
            queues.set_queue_attributes(url.rpartition("/")[2], {"Policy": json.dumps(properties["PolicyDocument"])})
        return cls(resource_name)


class PodIdentityAssociation(_Named, CloudFormationModel):  # type: ignore[misc]
    """Only noted, with its resolved properties."""

    made: ClassVar[list[Mapping[str, Any]]] = []

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::EKS::PodIdentityAssociation"

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> PodIdentityAssociation:
        cls.made.append(cloudformation_json["Properties"])
        return cls(resource_name)
