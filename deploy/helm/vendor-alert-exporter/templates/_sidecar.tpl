{{/* For the pod of another chart; each takes `(index .Subcharts "vendor-alert-exporter")`. */}}

{{- define "vendor-alert-exporter.sidecar.isNative" -}}
{{- $able := semverCompare ">=1.29.0-0" .Capabilities.KubeVersion.Version }}
{{- if or (eq .Values.sidecar.mode "native") (and (eq .Values.sidecar.mode "auto") $able) }}true{{ end }}
{{- end }}

{{/* Below `initContainers:`; empty where sidecars are ordinary containers. */}}
{{- define "vendor-alert-exporter.sidecar.initContainers" -}}
{{- if include "vendor-alert-exporter.sidecar.isNative" . -}}
{{ include "vendor-alert-exporter.container" . }}
  # Started before the pod's own containers, stopped after them.
  restartPolicy: Always
{{- end }}
{{- end }}

{{/* Below `containers:`; empty where sidecars are native. */}}
{{- define "vendor-alert-exporter.sidecar.containers" -}}
{{- if not (include "vendor-alert-exporter.sidecar.isNative" .) -}}
{{ include "vendor-alert-exporter.container" . }}
{{- end }}
{{- end }}

{{/* Below `volumes:`. */}}
{{- define "vendor-alert-exporter.sidecar.volumes" -}}
{{ include "vendor-alert-exporter.volumes" . }}
{{- end }}

{{/* Below the pod's `annotations:`; empty where a changed configuration is reloaded rather than rolled out. */}}
{{- define "vendor-alert-exporter.sidecar.annotations" -}}
{{ include "vendor-alert-exporter.configChecksum" . }}
{{- end }}
