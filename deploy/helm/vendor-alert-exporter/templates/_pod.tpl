{{/* Settings stand in the environment, so that `kubectl exec … vendor-alert-exporter poll` and probes see the same. */}}
{{- define "vendor-alert-exporter.container" -}}
{{- $loopback := and .Values.sidecar.enabled .Values.sidecar.loopbackOnly -}}
- name: {{ .Chart.Name | quote }}
  image: {{ include "vendor-alert-exporter.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  {{- with concat (ternary (list "demo" "--config.file=/etc/vendor-alert-exporter/config/config.yaml") list .Values.demo.enabled) .Values.extraArgs }}
  args:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  env:
    - name: VENDOR_ALERT_EXPORTER_CONFIG__FILE
      value: /etc/vendor-alert-exporter/config/config.yaml
    {{- if .Values.autoReload }}
    - name: VENDOR_ALERT_EXPORTER_CONFIG__ENABLE_AUTO_RELOAD
      value: "true"
    {{- end }}
    - name: VENDOR_ALERT_EXPORTER_WEB__LISTEN_ADDRESS
      value: "{{ if $loopback }}127.0.0.1{{ end }}:{{ .Values.containerPort }}"
    {{- if .Values.webConfig }}
    - name: VENDOR_ALERT_EXPORTER_WEB__CONFIG__FILE
      value: /etc/vendor-alert-exporter/web/web.yaml
    {{- end }}
    {{- if include "vendor-alert-exporter.isSharded" . }}
    # Which of them a pod is, it reads off its name.
    - name: VENDOR_ALERT_EXPORTER_SHARD__TOTAL
      value: {{ .Values.sharding.replicas | quote }}
    {{- end }}
    {{- range .Values.extraEnv }}
    {{- $variable := . }}
    {{- if and (hasKey . "value") (not (kindIs "string" .value)) }}
    {{- $text := ternary "" (toJson .value) (kindIs "invalid" .value) }}
    {{- $variable = mergeOverwrite (deepCopy (omit . "value")) (dict "value" $text) }}
    {{- end }}
    {{- list $variable | toYaml | nindent 4 }}
    {{- end }}
  {{- with .Values.extraEnvFrom }}
  envFrom:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  ports:
    - name: metrics
      containerPort: {{ .Values.containerPort }}
      protocol: TCP
  {{- with .Values.startupProbe }}
  startupProbe:
    {{- include "vendor-alert-exporter.probe" (list $ . "/-/healthy" $loopback) | nindent 4 }}
  {{- end }}
  {{- with .Values.livenessProbe }}
  livenessProbe:
    {{- include "vendor-alert-exporter.probe" (list $ . "/-/healthy" $loopback) | nindent 4 }}
  {{- end }}
  {{- if not .Values.sidecar.enabled }}{{/* whose readiness would be that of its parent's pod */}}
  {{- with .Values.readinessProbe }}
  readinessProbe:
    {{- include "vendor-alert-exporter.probe" (list $ . "/-/ready" $loopback) | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- with .Values.resources }}
  resources:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.securityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  volumeMounts:
    - name: {{ .Chart.Name }}-config
      mountPath: /etc/vendor-alert-exporter/config
      readOnly: true
    {{- if .Values.existingSecret }}
    - name: {{ .Chart.Name }}-secrets
      mountPath: /etc/vendor-alert-exporter/secrets
      readOnly: true
    {{- end }}
    {{- if .Values.webConfig }}
    - name: {{ .Chart.Name }}-web
      mountPath: /etc/vendor-alert-exporter/web
      readOnly: true
    {{- end }}
    {{- if .Values.tlsSecret }}
    - name: {{ .Chart.Name }}-tls
      mountPath: /etc/vendor-alert-exporter/tls
      readOnly: true
    {{- end }}
    {{- if .Values.demo.enabled }}
    - name: {{ .Chart.Name }}-tmp
      mountPath: /tmp
    {{- end }}
    {{- with .Values.extraVolumeMounts }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
{{- end }}

{{/* A probe: the context, its values, a path, and whether the kubelet cannot connect because only loopback listens.
A kubelet has neither password nor certificate: then the exporter asks itself. */}}
{{- define "vendor-alert-exporter.probe" -}}
{{- $root := index . 0 }}
{{- $probe := index . 1 }}
{{- $tls := default dict $root.Values.webConfig.tls_server_config }}
{{- $closed := or (index . 3) $root.Values.webConfig.basic_auth_users (ne "NoClientCert" (default "NoClientCert" $tls.client_auth_type)) }}
{{- if not (or $probe.httpGet $probe.exec $probe.tcpSocket $probe.grpc) }}
{{- if $closed -}}
exec:
  command: [vendor-alert-exporter, healthcheck]
{{ else -}}
httpGet:
  path: {{ index . 2 }}
  port: metrics
  scheme: {{ include "vendor-alert-exporter.scheme" $root | upper }}
{{ end }}
{{- end }}
{{- toYaml $probe }}
{{- end }}

{{- define "vendor-alert-exporter.volumes" -}}
- name: {{ .Chart.Name }}-config
  configMap:
    name: {{ include "vendor-alert-exporter.configMapName" . | quote }}
{{- with .Values.existingSecret }}
- name: {{ $.Chart.Name }}-secrets
  secret:
    secretName: {{ . | quote }}
{{- end }}
{{- if .Values.webConfig }}
- name: {{ .Chart.Name }}-web
  secret:
    secretName: {{ include "vendor-alert-exporter.fullname" . }}-web
{{- end }}
{{- with .Values.tlsSecret }}
- name: {{ $.Chart.Name }}-tls
  secret:
    secretName: {{ . | quote }}
{{- end }}
{{- if .Values.demo.enabled }}
- name: {{ .Chart.Name }}-tmp
  emptyDir:
    sizeLimit: 16Mi
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Replaces the pod where nothing else brings it a changed configuration. */}}
{{- define "vendor-alert-exporter.configChecksum" -}}
{{- if not .Values.autoReload -}}
checksum/vendor-alert-exporter-config: {{ toYaml .Values.config | sha256sum }}
{{- end }}
{{- end }}

{{- define "vendor-alert-exporter.podTemplate" -}}
metadata:
  {{- with mergeOverwrite (include "vendor-alert-exporter.configChecksum" . | fromYaml) .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  labels:
    {{- mergeOverwrite (deepCopy .Values.podLabels) (include "vendor-alert-exporter.labels" . | fromYaml) | toYaml | nindent 4 }}
spec:
  serviceAccountName: {{ include "vendor-alert-exporter.serviceAccountName" . | quote }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automount }}
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.extraInitContainers }}
  initContainers:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    {{- include "vendor-alert-exporter.container" . | nindent 4 }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "vendor-alert-exporter.volumes" . | nindent 4 }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" "terminationGracePeriodSeconds" "dnsPolicy" "dnsConfig" "hostAliases" }}
  {{- with index $.Values $key }}
  {{- dict $key . | toYaml | nindent 2 }}
  {{- end }}
  {{- end }}
{{- end }}
