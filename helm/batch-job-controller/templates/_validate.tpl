{{/*
What the schema can't say. Every problem is one line: the value, what is wrong, and the remedy. All are told at once.
*/}}
{{- define "batch-job-controller.validate" -}}
{{- $problems := list -}}
{{- $values := .Values -}}
{{- $config := include "batch-job-controller.config" . | fromYaml -}}
{{- $folder := include "batch-job-controller.storeFolder" . -}}

{{- $fullname := include "batch-job-controller.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $fullname) -}}
{{- $name := regexReplaceAll "^[^a-z]+" (replace "." "-" $fullname) "" | trimAll "-" | default .Chart.Name -}}
{{- $problems = append $problems (printf "fullnameOverride: the objects would be called %s, and a Service's name takes only lower-case letters, digits and dashes and begins with a letter; set fullnameOverride, to %s say" $fullname $name) -}}
{{- end -}}

{{- if gt (int $values.replicas) 1 -}}
{{- $problems = append $problems (printf "replicas: %d pods can't share one SQLite store, and each with its own would submit every request of its messages alone; set replicas to 1. Several replicas come with PostgreSQL, which is not built yet" (int $values.replicas)) -}}
{{- end -}}

{{- if not $values.image.repository -}}
{{- $problems = append $problems "image.repository: must be given: where you pushed the image, such as 111122223333.dkr.ecr.eu-central-1.amazonaws.com/batch-job-controller" -}}
{{- end -}}

{{- if contains ":" (base (default "" $values.image.repository)) -}}
{{- $problems = append $problems (printf "image.repository: %s has a tag, and gets another; put %s into image.tag" $values.image.repository (regexFind "[^:]+$" $values.image.repository)) -}}
{{- end -}}

{{- $names := list -}}
{{- range $values.env -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- if and (not (dig "queue_urls" list (default dict $config.intake))) (not (has "BATCH_CONTROLLER_INTAKE__QUEUE_URLS" $names)) (not $values.envFrom) -}}
{{- $problems = append $problems "config.intake.queue_urls: must be given: the URLs of the SQS queues to consume, such as [https://sqs.eu-central-1.amazonaws.com/111122223333/requests]" -}}
{{- end -}}
{{- range $name, $key := dict "BATCH_CONTROLLER_STORE__URL" "store.url" "BATCH_CONTROLLER_HTTP__PORT" "http.port" "BATCH_CONTROLLER_HTTP__HOST" "http.host" "BATCH_CONTROLLER_CONTROLLER__DRAIN_S" "controller.drain_s" -}}
{{- if has $name $names -}}
{{- $problems = append $problems (printf "env: %s would be hidden from the chart, which derives the pod from it; set config.%s instead" $name $key) -}}
{{- end -}}
{{- end -}}

{{- if and $config.store.url (not (hasPrefix (printf "sqlite:///%s/" $folder) $config.store.url)) -}}
{{- $problems = append $problems (printf "config.store.url: %s is not on the pod's volume, which is mounted at %s: it would be lost with the pod; leave it out, or begin it with sqlite:///%s/" $config.store.url $folder $folder) -}}
{{- end -}}
{{- if not (int $config.http.port) -}}
{{- $problems = append $problems "config.http.port: 0 takes a free port, which neither probes nor Services can know; give a number, or leave it out (8080)" -}}
{{- end -}}
{{- if or (has $config.http.host (list "localhost" "::1")) (hasPrefix "127." $config.http.host) -}}
{{- $problems = append $problems (printf "config.http.host: %s can't be reached by the kubelet's probes and Prometheus, which come to the pod's address; say by networkPolicy who may, and leave it out (0.0.0.0), or give \"::\" in an IPv6 cluster" $config.http.host) -}}
{{- end -}}

{{- range $name, $limit := default dict (default dict $values.resources).limits -}}
{{- $request := index (default dict $values.resources.requests) $name -}}
{{- if and $request $limit (gt (include "batch-job-controller.quantity" $request | float64) (include "batch-job-controller.quantity" $limit | float64)) -}}
{{- $problems = append $problems (printf "resources.requests.%s: %v is more than resources.limits.%s (%v), and Kubernetes would make no such pod; give at most %v" $name $request $name $limit $limit) -}}
{{- end -}}
{{- end -}}

{{- if not (kindIs "invalid" $values.terminationGracePeriodSeconds) -}}
{{- $drain := include "batch-job-controller.drainSeconds" . | int -}}
{{- if le (int $values.terminationGracePeriodSeconds) $drain -}}
{{- $problems = append $problems (printf "terminationGracePeriodSeconds: %d s is not above config.controller.drain_s (%d s): the pod would be killed while it drains; leave it out, or give %d" (int $values.terminationGracePeriodSeconds) $drain (add $drain 30)) -}}
{{- end -}}
{{- end -}}

{{- if and (eq (default "" $values.dnsPolicy) "None") (not (default dict $values.dnsConfig).nameservers) -}}
{{- $problems = append $problems "dnsPolicy: None leaves the pod without a name server, and Kubernetes would make no such pod; give dnsConfig.nameservers" -}}
{{- end -}}

{{- if and $values.persistence.existingClaim (not $values.persistence.enabled) -}}
{{- $problems = append $problems "persistence.existingClaim: is not used while persistence.enabled is false; set persistence.enabled to true, or leave the claim out" -}}
{{- end -}}

{{- if and (not $values.serviceAccount.create) (or $values.serviceAccount.annotations $values.serviceAccount.labels) -}}
{{- $problems = append $problems "serviceAccount.annotations, serviceAccount.labels: do nothing while serviceAccount.create is false; set it to true, or put them on the ServiceAccount that you named" -}}
{{- end -}}

{{- if and $values.podDisruptionBudget.enabled (not (kindIs "invalid" $values.podDisruptionBudget.minAvailable)) (not (kindIs "invalid" $values.podDisruptionBudget.maxUnavailable)) -}}
{{- $problems = append $problems "podDisruptionBudget: Kubernetes takes minAvailable or maxUnavailable, not both; leave one out" -}}
{{- end -}}

{{- if and $values.metrics.serviceMonitor.enabled $values.metrics.podMonitor.enabled -}}
{{- $problems = append $problems "metrics.podMonitor.enabled: with metrics.serviceMonitor.enabled every sample would be taken twice; enable one of them" -}}
{{- end -}}
{{- if and $values.metrics.serviceMonitor.enabled (not $values.metrics.service.enabled) -}}
{{- $problems = append $problems "metrics.serviceMonitor.enabled: needs metrics.service.enabled; set that to true, or use metrics.podMonitor" -}}
{{- end -}}
{{- range $value := list "serviceMonitor" "podMonitor" -}}
{{- with index $values.metrics $value -}}
{{- if and .enabled .interval .scrapeTimeout (gt (include "batch-job-controller.milliseconds" .scrapeTimeout | int64) (include "batch-job-controller.milliseconds" .interval | int64)) -}}
{{- $problems = append $problems (printf "metrics.%s.scrapeTimeout: %s is longer than metrics.%s.interval (%s), and the Prometheus Operator would leave the controller out; leave it out, or give at most %s" $value .scrapeTimeout $value .interval .interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq $values.metrics.renderMode "failIfMissing" -}}
{{- range $value, $kind := dict "serviceMonitor" "ServiceMonitor" "podMonitor" "PodMonitor" "prometheusRule" "PrometheusRule" -}}
{{- if and (index $values.metrics $value "enabled") (not (include "batch-job-controller.isRendered" (dict "root" $ "kind" $kind))) -}}
{{- $problems = append $problems (printf "metrics.%s.enabled: the cluster does not know monitoring.coreos.com/v1 %s; install the Prometheus Operator, or set metrics.renderMode to skipIfMissing or alwaysRender" $value $kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $values.metrics.prometheusRule.enabled (not (.Files.Glob "files/rules/*.yaml")) -}}
{{- $problems = append $problems "metrics.prometheusRule.enabled: this copy of the chart has no rules in files/rules; run make chart, or package it anew" -}}
{{- end -}}
{{- if and $values.dashboards.enabled (not (.Files.Glob "files/dashboards/*.json")) -}}
{{- $problems = append $problems "dashboards.enabled: this copy of the chart has no dashboards in files/dashboards; run make chart, or package it anew" -}}
{{- end -}}
{{- $alerts := list -}}
{{- range $path, $_ := .Files.Glob "files/rules/*.yaml" -}}
{{- range (fromYaml ($.Files.Get $path)).groups -}}
{{- range .rules -}}
{{- if .alert -}}{{- $alerts = append $alerts .alert -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $values.metrics.prometheusRule.disabledAlerts -}}
{{- if not (has . $alerts) -}}
{{- $problems = append $problems (printf "metrics.prometheusRule.disabledAlerts: no alert is called %s; the alerts are %s" . (join ", " (sortAlpha $alerts | uniq))) -}}
{{- end -}}
{{- end -}}

{{- range $key := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
{{- range $value, $labels := dict "commonLabels" (default dict $values.commonLabels) "podLabels" (default dict $values.podLabels) -}}
{{- if hasKey $labels $key -}}
{{- $problems = append $problems (printf "%s: %s selects the pods and is the chart's own; leave it out, or set nameOverride" $value $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The API server does not look into the pod of a StatefulSet: with these it would take it, and no pod would ever be made. */ -}}
{{- $volumes := list "config" "state" "tmp" -}}
{{- range include "batch-job-controller.tpl" (dict "root" . "value" (default list $values.extraVolumes)) | fromYamlArray -}}
{{- if has .name $volumes -}}
{{- $problems = append $problems (printf "extraVolumes: %s is a volume of the chart's own; give yours another name" .name) -}}
{{- end -}}
{{- end -}}
{{- range include "batch-job-controller.tpl" (dict "root" . "value" (default list $values.extraVolumeMounts)) | fromYamlArray -}}
{{- if has .name $volumes -}}
{{- $problems = append $problems (printf "extraVolumeMounts: %s is a volume of the chart's own, and mounted already; name one of extraVolumes" .name) -}}
{{- end -}}
{{- $path := clean .mountPath -}}
{{- if or (has $path (list "/etc/batch-controller" $folder "/tmp")) (hasPrefix "/etc/batch-controller/" $path) -}}
{{- $problems = append $problems (printf "extraVolumeMounts: the chart mounts a volume of its own at %s; mount %s at another path" (ternary "/etc/batch-controller" $path (hasPrefix "/etc/batch-controller/" $path)) .name) -}}
{{- end -}}
{{- end -}}
{{- range $value, $containers := dict "extraInitContainers" $values.extraInitContainers "extraContainers" $values.extraContainers -}}
{{- range include "batch-job-controller.tpl" (dict "root" $ "value" (default list $containers)) | fromYamlArray -}}
{{- if eq .name "controller" -}}
{{- $problems = append $problems (printf "%s: controller is the chart's own container; give yours another name" $value) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if hasKey (include "batch-job-controller.tpl" (dict "root" . "value" (default dict $values.podAnnotations)) | fromYaml) "checksum/config" -}}
{{- $problems = append $problems "podAnnotations: checksum/config is the chart's own, which restarts the pod when config has changed; leave it out, or give it another key" -}}
{{- end -}}

{{- if $problems -}}
{{- fail (printf "\n\nThese values can't work:\n  - %s\n" (join "\n  - " $problems)) -}}
{{- end -}}
{{- end -}}
