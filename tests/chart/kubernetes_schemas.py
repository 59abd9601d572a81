"""Kubernetes' schemas, run in the tools' own environment: what each version has against each object."""

import json
import sys

import kubernetes_validate  # type: ignore[import-not-found]

CUSTOM = ("monitoring.coreos.com/v1",)

given = json.load(sys.stdin)
errors = []
for version in given["versions"]:
    for manifest in given["manifests"]:
        if manifest["apiVersion"] in CUSTOM:
            continue
        try:
            kubernetes_validate.validate(manifest, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            errors.append(
                f"{version} {manifest['kind']} {manifest['metadata']['name']}: {getattr(error, 'message', error)}"
            )
json.dump(errors, sys.stdout)
