"""Reads the shape of SubmitJob's input from the SDK's own service model."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from botocore.loaders import create_loader
from botocore.model import ServiceModel

from controller.core.errors import Misconfigured
from controller.core.shapes import Kind, Shape

_KINDS = {
    **{kind.value: kind for kind in Kind},
    "double": Kind.FLOAT,
}
_DEPTH_MAX = 32
"""The model is 8 deep; more means a shape that holds itself, which a tree can't show."""


@lru_cache(maxsize=1)
def submit_job_shape() -> Shape:
    """Input of SubmitJob as the installed SDK validates it. Blocks for about 0.1 s the first time.

    Raises Misconfigured if the model has what this program can't represent.
    """
    # Not by a session, which reads the profile first and fails for one that is not there.
    loader = create_loader(os.environ.get("AWS_DATA_PATH"))  # type: ignore[no-untyped-call]  # botocore has no types
    description = loader.load_service_model("batch", "service-2")
    model = ServiceModel(description, service_name="batch")  # type: ignore[no-untyped-call]
    return _shape(model.operation_model("SubmitJob").input_shape, "SubmitJob", 0)


def _shape(model: Any, path: str, depth: int) -> Shape:
    """``model`` is a ``botocore.model.Shape``."""
    kind = _KINDS.get(model.type_name)
    if kind is None or depth > _DEPTH_MAX:
        raise Misconfigured(
            f"the SDK's model of AWS Batch has at {path} a {model.type_name} that this version does not know; "
            "install the botocore version that the package asks for"
        )
    element = {Kind.LIST: "member", Kind.MAP: "value"}.get(kind)
    members = model.members if kind is Kind.STRUCTURE else {}
    return Shape(
        name=model.name,
        kind=kind,
        members={name: _shape(member, f"{path}.{name}", depth + 1) for name, member in members.items()},
        required=tuple(model.required_members) if kind is Kind.STRUCTURE else (),
        element=_shape(getattr(model, element), f"{path}[]", depth + 1) if element is not None else None,
        key=_shape(model.key, f"{path} (key)", depth + 1) if kind is Kind.MAP else None,
        min=model.metadata.get("min"),
        max=model.metadata.get("max"),
        choices=tuple(model.enum) if kind is Kind.STRING else (),
    )
