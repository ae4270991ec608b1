{{- define "vendor-alert-exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The names of StatefulSets end at 52 characters, since their pods carry a hash behind it in a label. */}}
{{- define "vendor-alert-exporter.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Names are quoted here and elsewhere: `y`, `on` and `123` are names too. */}}
{{- define "vendor-alert-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vendor-alert-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "vendor-alert-exporter.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride | quote }}
{{- end }}

{{- define "vendor-alert-exporter.labels" -}}
{{- with omit .Values.commonLabels "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{- toYaml . }}
{{ end -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "vendor-alert-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "vendor-alert-exporter.serviceAccountName" -}}
{{- $created := ternary (include "vendor-alert-exporter.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $created .Values.serviceAccount.name }}
{{- end }}

{{- define "vendor-alert-exporter.image" -}}
{{- with .Values.image }}
{{- with default .registry (dig "imageRegistry" "" (default dict $.Values.global)) }}{{ . }}/{{ end }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{- define "vendor-alert-exporter.isSharded" -}}
{{- if gt (int .Values.sharding.replicas) 1 }}true{{ end }}
{{- end }}

{{/* The Service's name: a headless one has its own, since a Service cannot change into one. */}}
{{- define "vendor-alert-exporter.serviceName" -}}
{{- include "vendor-alert-exporter.fullname" . }}{{ if include "vendor-alert-exporter.isSharded" . }}-shards{{ end }}
{{- end }}

{{- define "vendor-alert-exporter.scheme" -}}
{{- ternary "https" "http" (hasKey .Values.webConfig "tls_server_config") }}
{{- end }}

{{- define "vendor-alert-exporter.telemetryPath" -}}
{{- dig "web" "telemetry_path" "/metrics" .Values.config }}
{{- end }}

{{- define "vendor-alert-exporter.configMapName" -}}
{{- default (include "vendor-alert-exporter.fullname" .) .Values.existingConfigMap }}
{{- end }}

{{/* What one endpoint of a ServiceMonitor and of a PodMonitor have in common; takes the context and the monitor. */}}
{{- define "vendor-alert-exporter.endpoint" -}}
{{- $monitor := index . 1 }}
{{- with index . 0 -}}
- port: metrics
  path: {{ default (include "vendor-alert-exporter.telemetryPath" .) $monitor.path }}
  scheme: {{ include "vendor-alert-exporter.scheme" . }}
  honorLabels: {{ $monitor.honorLabels }}
{{- end }}
{{- range $key := list "interval" "scrapeTimeout" "tlsConfig" "basicAuth" "authorization" "relabelings" "metricRelabelings" }}
  {{- with index $monitor $key }}
  {{- dict $key . | toYaml | nindent 2 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* What stands beside the endpoints in the spec of either monitor. */}}
{{- define "vendor-alert-exporter.monitorOptions" -}}
{{- range $key := list "jobLabel" "targetLabels" "podTargetLabels" "sampleLimit" }}
{{- with index $ $key }}
{{ dict $key . | toYaml }}
{{- end }}
{{- end }}
{{- end }}

{{/* An object that Prometheus selects: its metadata; takes the context and the section of values. */}}
{{- define "vendor-alert-exporter.monitoringMetadata" -}}
{{- $section := index . 1 }}
{{- with index . 0 -}}
name: {{ include "vendor-alert-exporter.fullname" . | quote }}
namespace: {{ with $section.namespace }}{{ quote . }}{{ else }}{{ include "vendor-alert-exporter.namespace" . }}{{ end }}
labels:
  {{- mergeOverwrite (include "vendor-alert-exporter.labels" . | fromYaml) $section.additionalLabels | toYaml | nindent 2 }}
{{- end }}
{{- end }}

{{- define "vendor-alert-exporter.validate" -}}
{{- $secrets := .Files.Get "files/secrets.json" | fromJson }}
{{- range $name, $source := .Values.config.sources }}
{{- range $key := index $secrets (toString $source.vendor) }}
{{- if hasKey (default dict $source.auth) $key }}
{{- fail (printf "config.sources.%s.auth.%s: a credential has no place in a ConfigMap: put it into the Secret that existingSecret names, and write %s_file: /etc/vendor-alert-exporter/secrets/KEY" $name $key $key) }}
{{- end }}
{{- end }}
{{- if contains "@" (toString $source.proxy) }}
{{- fail (printf "config.sources.%s.proxy: a credential has no place in a ConfigMap: give the proxy with its password as an environment variable from a Secret, by extraEnvFrom" $name) }}
{{- end }}
{{- end }}
{{- if dig "otlp" "headers" dict .Values.config }}
{{- fail "config.otlp.headers: a credential has no place in a ConfigMap: put the headers into the Secret that existingSecret names, and write headers_file: /etc/vendor-alert-exporter/secrets/KEY" }}
{{- end }}
{{/* Where YAML cannot hold a character, toYaml says nothing at all, and the exporter would find an empty file. */}}
{{- if and .Values.config (not (toYaml .Values.config)) }}
{{- fail "config: it holds a control character, which YAML cannot: remove it" }}
{{- end }}
{{- if and .Values.existingConfigMap .Values.config }}
{{- fail "existingConfigMap and config exclude each other: keep one" }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled .Values.podMonitor.enabled }}
{{- fail "podMonitor.enabled: with serviceMonitor.enabled as well every sample would be scraped twice: keep one" }}
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- $single := not (include "vendor-alert-exporter.isSharded" $) }}
{{- if or (has (toString .maxUnavailable) (list "0" "0%")) (eq (toString .minAvailable) "100%") (and $single (hasKey . "minAvailable") (not (has (toString .minAvailable) (list "0" "0%")))) }}
{{- fail "podDisruptionBudget: it would never let the pod be evicted, and no node that runs it could be drained: write {maxUnavailable: 1}" }}
{{- end }}
{{- end }}
{{- if .Values.sidecar.enabled }}
{{- if include "vendor-alert-exporter.isSharded" . }}
{{- fail "sharding.replicas: a sidecar is one in each of its parent's pods: set 1" }}
{{- end }}
{{- if .Values.serviceMonitor.enabled }}
{{- fail "serviceMonitor.enabled: a sidecar has no Service: use podMonitor with matchLabels of the parent's pods" }}
{{- end }}
{{- if and .Values.podMonitor.enabled (not .Values.podMonitor.matchLabels) }}
{{- fail "podMonitor.matchLabels: give the labels of the parent's pods" }}
{{- end }}
{{- if and .Values.podMonitor.enabled .Values.sidecar.loopbackOnly }}
{{- fail "podMonitor.enabled: with sidecar.loopbackOnly nothing outside the pod can scrape the exporter" }}
{{- end }}
{{- end }}
{{- end }}
