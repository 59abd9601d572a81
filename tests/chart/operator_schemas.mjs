// The Prometheus Operator's schemas: what they have against the objects on standard input. Argument: the tools' folder.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const models = `${process.argv[2]}/node_modules/@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/index.js`;
const kinds = await import(pathToFileURL(models).href);

const errors = [];
for (const manifest of JSON.parse(readFileSync(0, "utf8"))) {
  if (manifest.apiVersion !== "monitoring.coreos.com/v1") continue;
  const Kind = kinds[manifest.kind];
  if (Kind === undefined) {
    errors.push(`${manifest.kind}: unknown kind`);
    continue;
  }
  try {
    new Kind(manifest).validate();
  } catch (error) {
    errors.push(`${manifest.kind} ${manifest.metadata.name}: ${error.message}`);
  }
}
console.log(JSON.stringify(errors));
