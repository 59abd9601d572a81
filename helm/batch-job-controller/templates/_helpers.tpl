{{/* Name of the chart in labels. */}}
{{- define "batch-job-controller.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
Name of the objects. At most 52 characters: Kubernetes puts "<name>-<10 characters>" into a label of the pod. What
can't name a Service is refused by the validation and not mended here: a name that changed would be another claim.
*/}}
{{- define "batch-job-controller.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimAll "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimAll "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimAll "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Labels that select the pods. They can never be changed for a StatefulSet that exists. */}}
{{- define "batch-job-controller.selectorLabels" -}}
app.kubernetes.io/name: {{ include "batch-job-controller.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: controller
{{- end -}}

{{/*
Labels of an object. Arguments: root, and optionally component and extra (a map).
*/}}
{{- define "batch-job-controller.labels" -}}
{{- $own := dict
  "app.kubernetes.io/name" (include "batch-job-controller.name" .root)
  "app.kubernetes.io/instance" .root.Release.Name
  "app.kubernetes.io/component" (default "controller" .component)
  "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_" | trunc 63)
  "app.kubernetes.io/managed-by" .root.Release.Service
  "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
-}}
{{- mergeOverwrite (deepCopy (default dict .root.Values.commonLabels)) (default dict .extra) $own | toYaml -}}
{{- end -}}

{{/* Name of the ServiceAccount. */}}
{{- define "batch-job-controller.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "batch-job-controller.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Reference of the image: the digest wins over the tag. */}}
{{- define "batch-job-controller.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Folder of the store: where the volume is mounted. The image has it too, owned by its user. */}}
{{- define "batch-job-controller.storeFolder" -}}
/var/lib/batch-controller
{{- end -}}

{{/*
Name of the controller: <namespace>.<release>, which is unique in a cluster. The controller takes 63 characters; what is
longer is cut and told apart by a hash.
*/}}
{{- define "batch-job-controller.controllerName" -}}
{{- $name := printf "%s.%s" .Release.Namespace .Release.Name -}}
{{- if gt (len $name) 63 -}}
{{- printf "%s-%s" (trunc 54 $name | trimSuffix "-" | trimSuffix ".") (sha256sum $name | trunc 8) -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{/* The controller's whole configuration, as YAML: what fits the pod, and over it what the user gave. */}}
{{- define "batch-job-controller.config" -}}
{{- $fitting := dict
  "controller" (dict "name" (include "batch-job-controller.controllerName" .))
  "store" (dict "url" (printf "sqlite:///%s/state.db" (include "batch-job-controller.storeFolder" .)))
  "http" (dict "host" "0.0.0.0" "port" 8080)
-}}
{{- mergeOverwrite $fitting (deepCopy .Values.config) | toYaml -}}
{{- end -}}

{{/* Port of the container. */}}
{{- define "batch-job-controller.port" -}}
{{- $config := include "batch-job-controller.config" . | fromYaml -}}
{{- $config.http.port | int -}}
{{- end -}}

{{/* Grace time that the controller takes after SIGTERM, in whole seconds. */}}
{{- define "batch-job-controller.drainSeconds" -}}
{{- $config := include "batch-job-controller.config" . | fromYaml -}}
{{- dig "drain_s" 30 $config.controller | float64 | ceil | int -}}
{{- end -}}

{{/* Seconds between SIGTERM and SIGKILL. */}}
{{- define "batch-job-controller.terminationGracePeriodSeconds" -}}
{{- if kindIs "invalid" .Values.terminationGracePeriodSeconds -}}
{{- add (include "batch-job-controller.drainSeconds" .) 30 -}}
{{- else -}}
{{- .Values.terminationGracePeriodSeconds | int -}}
{{- end -}}
{{- end -}}

{{/*
Whether to render a kind of the Prometheus Operator ("true" or nothing). Arguments: root, kind. renderMode decides; the
cluster is asked only if it says so.
*/}}
{{- define "batch-job-controller.isRendered" -}}
{{- $mode := .root.Values.metrics.renderMode -}}
{{- if eq $mode "alwaysRender" -}}
true
{{- else if .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) -}}
true
{{- end -}}
{{- end -}}

{{/* Milliseconds of a duration as Prometheus writes it, such as 1m30s. */}}
{{- define "batch-job-controller.milliseconds" -}}
{{- $units := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 -}}
{{- /* Without leading zeros, which would make the number octal. */}}
{{- $sum = add $sum (mul (regexFind "[1-9][0-9]*" . | int64) (get $units (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* A quantity of Kubernetes, such as 100m, 192Mi or 1e9, as a number that can be compared. */}}
{{- define "batch-job-controller.quantity" -}}
{{- $text := toString . -}}
{{- $units := dict "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024.0 "Mi" 1048576.0 "Gi" 1073741824.0 "Ti" 1099511627776.0 "Pi" 1125899906842624.0 "Ei" 1152921504606846976.0 -}}
{{- $unit := regexFind "[A-Za-z]+$" $text -}}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit | default 1.0) -}}
{{- end -}}

{{/* A value with its templates filled in, as YAML. Arguments: root, value. */}}
{{- define "batch-job-controller.tpl" -}}
{{- $text := ternary .value (toYaml .value) (kindIs "string" .value) -}}
{{- if contains "{{" $text -}}
{{- tpl $text .root -}}
{{- else -}}
{{- $text -}}
{{- end -}}
{{- end -}}

{{/*
Text of a rule file or dashboard with the user's addresses in place of the placeholders that it is shipped with.
Arguments: root, text.
*/}}
{{- define "batch-job-controller.linked" -}}
{{- $text := .text -}}
{{- range $name, $address := .root.Values.links -}}
{{- if $address -}}
{{- $text = $text | replace (printf "https://%s.example.com" $name) (trimSuffix "/" $address) -}}
{{- end -}}
{{- end -}}
{{- $text -}}
{{- end -}}
